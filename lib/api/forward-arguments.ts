/** Checks the arguments of a forward and turns them into what a runtime takes, before anything is queued. */

import { allocate } from '../block/allocate.js'
import type { ResolvedMoeConfig } from '../block/config.js'
import type { DType, FloatArray } from '../block/dtype.js'
import {
  checkOptionKeys,
  invalidArgShape,
  invalidArgType,
  invalidArgValue,
  MoeError,
  missingInput,
} from '../block/errors.js'
import { isFloat32Array, isInt32Array, isUint8Array } from '../block/typed-arrays.js'
import { type ForwardRequest, IN_PLACE } from '../devices/contract.js'
import { onHost, type Stored } from '../devices/device-array.js'
import { type FloatInput, floatInput, type HiddenStates } from './float-input.js'
import { checkBuffer, type Use } from './leases.js'
import { checkSequenceLengths, checkTopK, checkTopP, int32Option } from './routing-arguments.js'
import { allocateStored, Tensor } from './tensor.js'

/** A recorded routing, `[numTokens, topK]` each. */
export interface RecordedRouting {
  /** Expert ids, −1 for none. */
  topkIds: Int32Array
  topkWeights: Float32Array
}

/** Options of `forward` and `forwardSync`. */
export interface ForwardOptions {
  /**
   * Experts per token for this call: one figure, or one per row. At most `config.topK`; 0 leaves the shared experts only.
   * @defaultValue `config.topK`, bit-exact with the trained layer
   */
  topK?: number | Uint8Array
  /**
   * In (0, 1], one figure, or one per row: keep, per token, the fewest of the selected experts whose share of the selected routing weight
   * reaches it (at least one), then renormalise the way the family does. @defaultValue 1, which keeps all
   */
  topP?: number | Float32Array
  /** Replays a recorded routing instead of running the gate. */
  routing?: RecordedRouting
  /** `[numTokens]`, for hash-routed layers (DeepSeek-V4). */
  tokenIds?: Int32Array
  /** Type and shape of the hidden states, for families whose router reads another tensor than the experts (Gemma 4). */
  routerInput?: HiddenStates
  /** Tokens per sequence, summing to numTokens, for families with expert capacity (Switch). @defaultValue one sequence */
  sequenceLengths?: Int32Array
  /**
   * Whose each row is, `[numTokens]`: numbers of the caller's own, such as of requests that share a batch. The result's `workOf` has the work of
   * each; `Int32Array.from({ length: numTokens }, (_, row) => row)` gives it row by row.
   */
  rows?: Int32Array
  /** Written instead of a new array; type and shape of the hidden states. Must not overlap any input. */
  output?: HiddenStates
  /** Aborts a queued call at once and a running one between experts. Asynchronous calls only. */
  signal?: AbortSignal
}

const OPTION_KEYS = [
  'topK',
  'topP',
  'routing',
  'tokenIds',
  'routerInput',
  'sequenceLengths',
  'rows',
  'output',
  'signal',
]

/** A checked call. */
export interface PreparedForward {
  request: { -readonly [Key in keyof ForwardRequest]: ForwardRequest[Key] }
  /** Arrays of the caller that may be gone before the call ends: {@link borrow} copies the large ones. */
  borrowed: Borrowed[]
  /** What the caller gets: its own output, or a new one of the input's type. */
  output: HiddenStates
  /** Whose each row is, a copy. */
  rows: Int32Array | null
  /** Memory to lease while the call is in flight. */
  uses: Use[]
  /** The call has failed: frees a new output. */
  discard(): void
}

/** An array of the caller's in memory that can be transferred. */
export interface Borrowed {
  name: keyof typeof IN_PLACE
  array: FloatArray
}

/**
 * Validates a call.
 *
 * @throws TypeError and RangeError with ERR_MOE_INVALID_ARG_*, ERR_MOE_UNKNOWN_OPTION, ERR_MOE_MISSING_INPUT
 * @throws {@link MoeError} ERR_MOE_BUFFER_DETACHED
 */
export function prepareForward(
  config: ResolvedMoeConfig,
  layerDtype: DType,
  device: string,
  hiddenStates: HiddenStates,
  options: ForwardOptions,
): PreparedForward {
  if (typeof options !== 'object' || options === null) throw invalidArgType('options', 'an object', options)
  checkOptionKeys(options, OPTION_KEYS)
  const { hiddenSize, topK } = config
  const hidden = floatInput('hiddenStates', hiddenStates, layerDtype, device, hiddenSize)
  const numTokens = hidden.length / hiddenSize
  const uses: Use[] = []
  const lease = (name: string, input: { array: Use['array'] }, write = false) =>
    uses.push({ name, array: input.array, write })
  lease('hiddenStates', hidden)
  const borrowed: Borrowed[] = []
  let inPlace = 0
  const place = (name: keyof typeof IN_PLACE, { array, isKept }: Pick<FloatInput, 'array' | 'isKept'>) => {
    if (isKept) inPlace |= IN_PLACE[name]
    else borrowed.push({ name, array: onHost(array) })
  }
  place('hidden', hidden)

  const same = (name: 'routerInput' | 'output', value: HiddenStates): FloatInput => {
    const input = floatInput(name, value, layerDtype, device, hiddenSize)
    if (input.dtype !== hidden.dtype || value.constructor !== hiddenStates.constructor) {
      throw invalidArgType(name, 'the same type as hiddenStates', value)
    }
    if (input.length !== hidden.length) {
      throw invalidArgShape(
        name,
        `[${numTokens}, ${hiddenSize}] like hiddenStates`,
        `${input.length} elements`,
      )
    }
    return input
  }

  let routerInput: Stored<FloatArray> | null = null
  if (options.routerInput !== undefined) {
    const input = same('routerInput', options.routerInput)
    lease('routerInput', input)
    place('routerInput', input)
    routerInput = input.array
  } else if (config.routerInput === 'separate' && options.routing === undefined) {
    throw missingInput(
      'options.routerInput',
      `the router of ${config.family} reads another tensor than its experts`,
    )
  }

  const tokenIds = int32Option('tokenIds', options.tokenIds, numTokens)
  if (tokenIds) lease('tokenIds', { array: tokenIds })
  else if (config.hashRouted && options.routing === undefined) {
    throw missingInput('options.tokenIds', 'this layer chooses experts by token id')
  }
  const sequenceLengths = checkSequenceLengths(options.sequenceLengths, numTokens)

  const rows = int32Option('rows', options.rows, numTokens)
  const callTopK = checkTopK(options.topK, topK, numTokens)
  if (isUint8Array(callTopK)) lease('topK', { array: callTopK })
  const topP = checkTopP(options.topP, numTokens)

  const slots = numTokens * topK
  const replay = options.routing !== undefined
  let topkIds: Int32Array
  let topkWeights: Float32Array
  if (options.routing !== undefined) {
    if (options.topK !== undefined || options.topP !== undefined) {
      throw invalidArgValue('routing', 'no topK or topP beside a recorded routing', 'both')
    }
    ;({ topkIds, topkWeights } = checkRecordedRouting(options.routing, config, slots))
  } else {
    topkIds = allocate(Int32Array, slots)
    topkWeights = allocate(Float32Array, slots)
  }

  let output: HiddenStates
  let outputArray: Stored<FloatArray>
  if (options.output !== undefined) {
    const input = same('output', options.output)
    lease('output', input, true)
    place('output', input)
    output = options.output
    outputArray = input.array
  } else {
    outputArray = allocateStored(hidden.device, hidden.dtype, hidden.length) as Stored<FloatArray>
    output = hidden.wrap(outputArray)
    // Nobody else sees it before the call has ended.
    place('output', { array: outputArray, isKept: true })
  }
  return {
    request: {
      numTokens,
      dtype: hidden.dtype,
      hidden: hidden.array,
      output: outputArray,
      routerInput,
      tokenIds,
      topK: callTopK,
      topP,
      sequenceLengths,
      inPlace,
      replay,
      topkIds,
      topkWeights,
      nonFinite: allocate(Uint8Array, numTokens),
    },
    borrowed,
    output,
    rows: rows && allocate(Int32Array, rows),
    uses,
    discard: () => {
      if (options.output === undefined && output instanceof Tensor) output.dispose()
    },
  }
}

/** Copies, so that the result owns its arrays and the caller may reuse its own at once. */
function checkRecordedRouting(routing: unknown, config: ResolvedMoeConfig, slots: number): RecordedRouting {
  if (typeof routing !== 'object' || routing === null) {
    throw invalidArgType('routing', 'an object { topkIds, topkWeights }', routing)
  }
  checkOptionKeys(routing, ['topkIds', 'topkWeights'], 'routing')
  const { topkIds, topkWeights } = routing as RecordedRouting
  if (!isInt32Array(topkIds)) throw invalidArgType('routing.topkIds', 'an Int32Array', topkIds)
  if (!isFloat32Array(topkWeights)) throw invalidArgType('routing.topkWeights', 'a Float32Array', topkWeights)
  checkBuffer('routing.topkIds', topkIds)
  checkBuffer('routing.topkWeights', topkWeights)
  if (topkIds.length !== slots) throw invalidArgShape('routing.topkIds', `${slots} ids`, `${topkIds.length}`)
  if (topkWeights.length !== slots) {
    throw invalidArgShape('routing.topkWeights', `${slots} weights`, `${topkWeights.length}`)
  }
  const experts = config.numExperts + config.numIdentityExperts
  for (const id of topkIds) {
    if (id < -1 || id >= experts)
      throw invalidArgValue('routing.topkIds', `ids from -1 to ${experts - 1}`, id)
  }
  return { topkIds: allocate(Int32Array, topkIds), topkWeights: allocate(Float32Array, topkWeights) }
}

/** @internal Returns the signal, or throws if it is not an AbortSignal. */
export function checkSignal(signal: unknown): AbortSignal | undefined {
  if (signal === undefined) return undefined
  if (!(signal instanceof AbortSignal)) throw invalidArgType('signal', 'an AbortSignal', signal)
  return signal
}

/** @internal */
export function disposedError(): MoeError {
  return new MoeError('ERR_MOE_DISPOSED', 'The layer has been disposed')
}
