/** The whole block on plain arrays, in double precision from end to end. */

import { allocate } from '../block/allocate.js'
import type { MoeConfig, ResolvedMoeConfig } from '../block/config.js'
import type { DType } from '../block/dtype.js'
import { checkOptionKeys, invalidArgShape, missingInput } from '../block/errors.js'
import { resolveConfig } from '../block/resolve.js'
import type { FloatWeights, MoeWeights } from '../block/weights.js'
import { checkIntegers, checkNumbers, checkValues } from './arguments.js'
import { runLayer } from './layer.js'
import { drain, makeWiden, type Numbers } from './matrix.js'
import { flaggedRows } from './select.js'
import { checkSelectCall } from './stage-select.js'
import { layerTensors } from './tensors.js'

/** Options of {@link forward}. T = tokens, K = topK. */
export interface ReferenceForwardOptions {
  /** Experts kept per token: one figure, or one per row `[T]`. @defaultValue config.topK */
  topK?: number | Uint8Array
  /** In (0, 1], one figure, or one per row `[T]`. @defaultValue 1 */
  topP?: number | Float32Array
  /** A recorded routing, `[T, K]` each, −1 for no expert; the gate does not run. */
  routing?: { topkIds: ArrayLike<number>; topkWeights: ArrayLike<number> }
  /** `[T]`, for hash-routed rules. */
  tokenIds?: ArrayLike<number>
  /** `[T, H]`, for families whose router reads another tensor. */
  routerInput?: Numbers | Uint16Array
  /** Tokens per sequence, summing to T; for capacity rules. @defaultValue one sequence */
  sequenceLengths?: ArrayLike<number>
  /** What a `Uint16Array` of hidden states or router input holds. @defaultValue weights.dtype, else 'bf16' */
  dtype?: DType
}

/** Result of {@link forward}. T = tokens, H = hiddenSize, K = topK, R = router outputs. */
export interface ReferenceForwardResult {
  /** `[T, H]`, unrounded. */
  output: Float64Array
  /** `[T, R]`, without the soft-cap; empty when a routing was replayed. */
  routerLogits: Float64Array
  /** `[T, K]`, by falling selection score; −1 in dropped slots. */
  topkIds: Int32Array
  /** `[T, K]`, as multiplied, scaling factor included; 0 in dropped slots. */
  topkWeights: Float64Array
  /** Rows whose router logits or output are not finite. */
  nonFiniteRows: Int32Array
}

const OPTION_KEYS = ['topK', 'topP', 'routing', 'tokenIds', 'routerInput', 'sequenceLengths', 'dtype']

/**
 * Runs a block: y = Σ_k w_k · E_k(x) + shared(x), with every variation that the config names.
 *
 * @param weights none of them codes: `dequantize` gives their values
 * @param hidden `[T, H]`; numbers, or the bits of a 16-bit dtype
 * @throws as `resolveConfig`, and RangeError `ERR_MOE_INVALID_ARG_SHAPE`, TypeError `ERR_MOE_MISSING_INPUT`.
 */
export function forward(
  config: MoeConfig | ResolvedMoeConfig,
  weights: MoeWeights,
  hidden: Numbers | Uint16Array,
  options: ReferenceForwardOptions = {},
): ReferenceForwardResult {
  checkOptionKeys(options, OPTION_KEYS)
  checkValues('hidden', hidden)
  const resolved = resolveConfig(config)
  const tensors = layerTensors(resolved, weights as FloatWeights)
  const { hiddenSize, topK } = resolved
  const widen = makeWiden(options.dtype ?? weights.dtype ?? 'bf16')
  if (hidden.length % hiddenSize !== 0)
    throw invalidArgShape('hidden', `a multiple of hiddenSize ${hiddenSize} elements`, `${hidden.length}`)
  const numTokens = hidden.length / hiddenSize
  const replay = options.routing !== undefined
  const readerOf = (array: Numbers | Uint16Array) => {
    const values = widen(array)
    return (token: number, row: Float64Array) => {
      for (let h = 0; h < hiddenSize; h++) row[h] = values[token * hiddenSize + h]!
    }
  }
  if (options.routerInput !== undefined) checkValues('options.routerInput', options.routerInput)
  if (options.routerInput && options.routerInput.length !== hidden.length)
    throw invalidArgShape('options.routerInput', `${hidden.length} elements`, `${options.routerInput.length}`)
  if (resolved.routerInput === 'separate' && !options.routerInput && !replay)
    throw missingInput('options.routerInput', `the router of ${resolved.family} reads another tensor`)

  const call = replay
    ? { tokenIds: null, topK, topP: 1, sequenceLengths: null }
    : checkSelectCall(resolved, options, numTokens)
  const topkIds = allocate(Int32Array, numTokens * topK)
  const topkWeights = allocate(Float64Array, numTokens * topK)
  if (options.routing) {
    const { topkIds: ids, topkWeights: given } = options.routing
    checkIntegers('options.routing.topkIds', ids)
    checkNumbers('options.routing.topkWeights', given)
    if (ids.length !== topkIds.length || given.length !== topkIds.length)
      throw invalidArgShape(
        'options.routing',
        `[${numTokens}, ${topK}] ids and weights`,
        `${ids.length}, ${given.length}`,
      )
    topkIds.set(ids)
    topkWeights.set(given)
    if (topkIds.some(id => id < -1 || id >= tensors.router.rows))
      throw invalidArgShape('options.routing.topkIds', `ids from -1 to ${tensors.router.rows - 1}`, 'another')
  }

  const output = allocate(Float64Array, numTokens * hiddenSize)
  const numOutputs = tensors.router.rows
  const routerLogits = allocate(Float64Array, replay ? 0 : numTokens * numOutputs)
  const nonFinite = allocate(Uint8Array, numTokens)
  drain(
    runLayer(resolved, tensors, {
      ...call,
      numTokens,
      replay,
      topkIds,
      topkWeights,
      nonFinite,
      readHidden: readerOf(hidden),
      readRouterInput: options.routerInput ? readerOf(options.routerInput) : null,
      onLogits: (token, logits) => routerLogits.set(logits, token * numOutputs),
      writeOutput: (token, row) => {
        output.set(row, token * hiddenSize)
        return row.every(Number.isFinite)
      },
    }),
  )
  return { output, routerLogits, topkIds, topkWeights, nonFiniteRows: flaggedRows(nonFinite) }
}
