/** The five stages of a block over tensors, for servers that own part of the layer. Synchronous; every device has all five. */

import type { Activation } from '../block/config.js'
import { checkOptionKeys, invalidArgShape, invalidArgValue, missingInput } from '../block/errors.js'
import { resolveRoutingConfig } from '../block/resolve.js'
import type { ResolvedRouting, RoutingConfig, RoutingVectors } from '../block/routing.js'
import type { StageRuntime } from '../devices/contract.js'
import { stagesOf } from '../devices/create.js'
import { isOnHost } from '../devices/device-array.js'
import { checkSequenceLengths, checkTopK, checkTopP, int32Option } from './routing-arguments.js'
import {
  checkDispatch,
  checkSize,
  type Dispatch,
  floatTensor,
  typedTensor,
  weightsTensor,
} from './stage-tensors.js'
import { type QuantizedTensor, Tensor } from './tensor.js'

export type { Dispatch } from './stage-tensors.js'

/** Options of {@link selectExperts}, as in `ForwardOptions`. */
export interface SelectOptions {
  topK?: number | Uint8Array
  topP?: number | Float32Array
  tokenIds?: Int32Array
  sequenceLengths?: Int32Array
}

type WithoutNumExperts<R> = R extends unknown ? Omit<R, 'numExperts'> : never

/** A {@link RoutingConfig} whose `numExperts` may be left to the shape of the logits. */
export type StageRouting = WithoutNumExperts<RoutingConfig> & { numExperts?: number }

/** Options of {@link expertMatmul}. */
export interface ExpertMatmulOptions {
  /** `true`: x is `[T, K']` and row slot/topK is read; `false`: x is `[T*K, K']`, one row per slot. @defaultValue false */
  gather?: boolean
  /** Experts per token; needed with `gather`. @defaultValue slots / rows of x */
  topK?: number
  /** Applied to the product; absent: none. */
  activation?: Activation
  /** Weights hold gate and up: `[E, 2N, K']`. @defaultValue false */
  gated?: boolean
  /** Gated weights alternate gate and up rows instead of holding two halves. @defaultValue false */
  interleaved?: boolean
  swigluLimit?: number
  /** @defaultValue swigluLimit */
  swigluGateLimit?: number
  swigluAlpha?: number
  swigluUpOffset?: number
  /** `[E, N]`, or `[E, 2N]` when gated; f32. */
  bias?: Tensor
}

/** All tensors of a call live on one device; its stages run it. */
function runtimeOf(...devices: string[]): StageRuntime {
  const [device] = devices
  const other = devices.find(candidate => candidate !== device)
  if (other) throw invalidArgValue('tensors', `one device (the first is on '${device}')`, other)
  return stagesOf(device!)
}

/**
 * Router logits: `hidden · routerWeightᵀ + bias`, accumulated and returned in f32 whatever the inputs' dtype.
 *
 * @param hidden `[T, H]` f32, f16 or bf16
 * @param routerWeight `[E, H]` f32, f16 or bf16
 * @param bias `[E]` f32
 * @returns `[T, E]` f32
 */
export function gate(hidden: Tensor, routerWeight: Tensor, bias?: Tensor): Tensor {
  const x = floatTensor('hidden', hidden, 2)
  const w = floatTensor('routerWeight', routerWeight, 2)
  const b = bias === undefined ? null : typedTensor('bias', bias, 'f32', 1)
  const [numTokens, hiddenSize] = x.shape as [number, number]
  const numExperts = w.shape[0]!
  checkSize('routerWeight', `[numExperts, ${hiddenSize}]`, w.shape[1] === hiddenSize, w.shape)
  if (b) checkSize('bias', `[${numExperts}]`, b.shape[0] === numExperts, b.shape)
  const runtime = runtimeOf(x.device, w.device, ...(b ? [b.device] : []))
  const logits = runtime.gate(
    x.data,
    x.dtype,
    w.data,
    w.dtype,
    b?.data ?? null,
    numTokens,
    hiddenSize,
    numExperts,
  )
  return new Tensor(logits, [numTokens, numExperts], 'f32', runtime.device)
}

/**
 * Chooses each token's experts and their weights.
 *
 * @param routerLogits `[T, E]` f32; E counts identity experts too
 * @param routing the rule and its tensors; `numExperts` follows from the logits where it is absent
 * @returns `topkIds` `[T, K]` i32 by falling selection score, ties to the lower index, −1 where dropped; `topkWeights` `[T, K]` f32,
 * scaling factor included. A row with a logit that is not finite gets ids 0 … K−1 and NaN weights.
 */
export function selectExperts(
  routerLogits: Tensor,
  routing: StageRouting | (ResolvedRouting & RoutingVectors),
  options: SelectOptions = {},
): { topkIds: Tensor; topkWeights: Tensor } {
  const logits = typedTensor('routerLogits', routerLogits, 'f32', 2)
  checkOptionKeys(options, ['topK', 'topP', 'tokenIds', 'sequenceLengths'])
  const [numTokens, outputs] = logits.shape as [number, number]
  const numExperts = outputs - (routing?.numIdentityExperts ?? 0)
  const { routing: resolved, vectors } = resolveRoutingConfig({ numExperts, ...routing } as RoutingConfig)
  const expected = resolved.numExperts + resolved.numIdentityExperts
  checkSize('routerLogits', `[numTokens, ${expected}]`, outputs === expected, logits.shape)
  const tokenIds = int32Option('tokenIds', options.tokenIds, numTokens)
  const call = {
    tokenIds,
    topK: checkTopK(options.topK, resolved.topK, numTokens),
    topP: checkTopP(options.topP, numTokens),
    sequenceLengths: checkSequenceLengths(options.sequenceLengths, numTokens),
  }
  if (resolved.hashRouted && !tokenIds)
    throw missingInput('options.tokenIds', 'this rule chooses experts by token id')
  const runtime = runtimeOf(logits.device)
  const selected = runtime.selectExperts(logits.data, numTokens, resolved, vectors, call)
  const shape = [numTokens, resolved.topK]
  return {
    topkIds: new Tensor(selected.topkIds, shape, 'i32', runtime.device),
    topkWeights: new Tensor(selected.topkWeights, shape, 'f32', runtime.device),
  }
}

/**
 * Sorts slots by expert, stably: bitwise the same every time.
 *
 * @param topkIds `[T, K]` i32 in −1 … numExperts−1
 * @throws RangeError ERR_MOE_INVALID_ARG_VALUE for an id outside
 */
export function dispatch(topkIds: Tensor, numExperts: number): Dispatch {
  const ids = typedTensor('topkIds', topkIds, 'i32', 2)
  if (!Number.isSafeInteger(numExperts) || numExperts < 1) {
    throw invalidArgValue('numExperts', 'a positive integer', numExperts)
  }
  // Other devices look at the contents themselves.
  for (const id of isOnHost(ids.data) ? ids.data : []) {
    if (id < -1 || id >= numExperts) throw invalidArgValue('topkIds', `ids from -1 to ${numExperts - 1}`, id)
  }
  const slots = ids.shape[0]! * ids.shape[1]!
  const runtime = runtimeOf(ids.device)
  const { expertOffsets, sortedSlots } = runtime.dispatch(ids.data, slots, numExperts)
  return {
    expertOffsets: new Tensor(expertOffsets, [numExperts + 1], 'i32', runtime.device),
    sortedSlots: new Tensor(sortedSlots, [slots], 'i32', runtime.device),
  }
}

/**
 * Multiplies every slot's row by its expert's matrix; with `gated` also applies the activation, in one pass.
 *
 * @param x `[T, K']` with `gather`, else `[T*K, K']`; f32, f16 or bf16
 * @param weights `[E, N, K']`, or `[E, 2N, K']` when gated; f32, f16, bf16, or codes (a {@link QuantizedTensor}): those of experts that
 * have slots are decoded to f32 in every call, on one thread and a few matrices at a time. `MoeLayer.create` multiplies by codes in place
 * @returns `[T*K, N]` f32, row = slot; rows of slots without an expert are 0
 */
export function expertMatmul(
  x: Tensor,
  weights: Tensor | QuantizedTensor,
  dispatched: Dispatch,
  options: ExpertMatmulOptions = {},
): Tensor {
  checkOptionKeys(options, [
    'gather',
    'topK',
    'activation',
    'gated',
    'interleaved',
    'swigluLimit',
    'swigluGateLimit',
    'swigluAlpha',
    'swigluUpOffset',
    'bias',
  ])
  const rows = floatTensor('x', x, 2)
  const matrices = weightsTensor('weights', weights, 3)
  const [numExperts, matrixRows, cols] = matrices.shape as [number, number, number]
  const { expertOffsets, sortedSlots, slots, devices } = checkDispatch(dispatched, numExperts)
  const bias = options.bias === undefined ? null : typedTensor('bias', options.bias, 'f32', 2)
  const { gather = false, gated = false, interleaved = false, activation } = options
  checkSize('x', `[rows, ${cols}]`, rows.shape[1] === cols, rows.shape)
  if (bias)
    checkSize(
      'bias',
      `[${numExperts}, ${matrixRows}]`,
      bias.shape[0] === numExperts && bias.shape[1] === matrixRows,
      bias.shape,
    )
  if (gated && matrixRows % 2 !== 0)
    throw invalidArgShape('weights', 'an even number of rows when gated', `${matrixRows}`)
  if (gated && activation === undefined)
    throw invalidArgValue('activation', 'an activation when gated', activation)
  const topK = gather ? (options.topK ?? (rows.shape[0] === 0 ? 1 : slots / rows.shape[0]!)) : 1
  if (!Number.isInteger(topK) || topK < 1) throw invalidArgValue('topK', 'a positive integer', topK)
  checkSize('x', `[${slots / topK}, ${cols}]`, rows.shape[0]! * topK === slots, rows.shape)
  const runtime = runtimeOf(rows.device, matrices.device, ...devices, ...(bias ? [bias.device] : []))
  const output = runtime.expertMatmul({
    x: rows.data,
    xDtype: rows.dtype,
    xRows: rows.shape[0]!,
    weights: matrices.data,
    weightsDtype: matrices.dtype,
    numExperts,
    rows: matrixRows,
    cols,
    bias: bias?.data ?? null,
    gather,
    topK,
    interleaved,
    activation:
      activation === undefined
        ? null
        : {
            activation,
            gated,
            swigluLimit: options.swigluLimit ?? 0,
            swigluGateLimit: options.swigluGateLimit ?? 0,
            swigluAlpha: options.swigluAlpha ?? 1,
            swigluUpOffset: options.swigluUpOffset ?? 0,
          },
    expertOffsets,
    sortedSlots,
  })
  return new Tensor(output, [slots, gated ? matrixRows / 2 : matrixRows], 'f32', runtime.device)
}

/**
 * Sums each token's expert outputs by their weights, in rising slot order.
 *
 * @param expertOutput `[T*K, H]` f32, row = slot
 * @param dispatched slots without an expert are left out and never read
 * @param topkWeights `[T, K]` f32
 * @returns `[T, H]` f32
 */
export function combine(expertOutput: Tensor, dispatched: Dispatch, topkWeights: Tensor): Tensor {
  const rows = typedTensor('expertOutput', expertOutput, 'f32', 2)
  const weights = typedTensor('topkWeights', topkWeights, 'f32', 2)
  const { slots, numExperts, devices, ...listed } = checkDispatch(dispatched)
  const [numTokens, topK] = weights.shape as [number, number]
  const hiddenSize = rows.shape[1]!
  checkSize(
    'expertOutput',
    `[${numTokens * topK}, hiddenSize]`,
    rows.shape[0] === numTokens * topK,
    rows.shape,
  )
  if (slots !== numTokens * topK) throw invalidArgShape('dispatch', `${numTokens * topK} slots`, `${slots}`)
  const runtime = runtimeOf(rows.device, weights.device, ...devices)
  const sizes = { numExperts, numTokens, topK, hiddenSize }
  return new Tensor(
    runtime.combine(rows.data, listed, weights.data, sizes),
    [numTokens, hiddenSize],
    'f32',
    runtime.device,
  )
}
