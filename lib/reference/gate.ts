/** The router's matmul. */

import { allocate } from '../block/allocate.js'
import { invalidArgShape } from '../block/errors.js'
import type { WeightMatrix } from '../block/weights.js'
import { checkNumbers, checkSizes } from './arguments.js'
import { drain, makeWiden, multiply, type Numbers, viewMatrix } from './matrix.js'

/**
 * What Gemma 4's router reads instead of its input r: `r / sqrt(mean(r²) + epsilon) * scale * H^-0.5` (`Gemma4TextRouter` of the
 * published modelling code).
 */
export function normalizeRouterInput(row: Numbers, scale: Numbers, epsilon: number): Float64Array {
  return normalizeRow(row, scale, epsilon, 1 / Math.sqrt(row.length))
}

/** `r / sqrt(mean(r²) + epsilon) * scale * gain`: RMSNorm with gain 1. */
export function normalizeRow(row: Numbers, scale: Numbers, epsilon: number, gain = 1): Float64Array {
  let squares = 0
  for (let i = 0; i < row.length; i++) squares += row[i]! * row[i]!
  const factor = gain / Math.sqrt(squares / row.length + epsilon)
  return Float64Array.from({ length: row.length }, (_, i) => row[i]! * factor * scale[i]!)
}

/**
 * Router logits `[T, E]` = hidden `[T, H]` · routerWeightᵀ `[E, H]` + bias `[E]`, in double precision and unrounded.
 *
 * @throws RangeError `ERR_MOE_INVALID_ARG_SHAPE` when a length does not fit the sizes.
 */
export function gate(
  hidden: Numbers,
  routerWeight: WeightMatrix | Numbers,
  bias: Numbers | null | undefined,
  sizes: { hiddenSize: number; numExperts: number },
): Float64Array {
  const [hiddenSize, numExperts] = checkSizes(sizes, ['hiddenSize', 'numExperts']) as [number, number]
  checkNumbers('hidden', hidden)
  if (bias !== null && bias !== undefined) checkNumbers('bias', bias)
  if (hidden.length % hiddenSize !== 0)
    throw invalidArgShape('hidden', `a multiple of hiddenSize ${hiddenSize} elements`, `${hidden.length}`)
  if (bias && bias.length !== numExperts)
    throw invalidArgShape('bias', `${numExperts} elements`, `${bias.length}`)
  const matrix = viewMatrix(routerWeight, numExperts, hiddenSize, 'routerWeight', makeWiden('bf16'))
  const numTokens = hidden.length / hiddenSize
  const logits = allocate(Float64Array, numTokens * numExperts)
  for (let t = 0; t < numTokens; t++) {
    const row = hidden.slice(t * hiddenSize, (t + 1) * hiddenSize)
    drain(multiply(matrix, row, bias ?? null, logits.subarray(t * numExperts, (t + 1) * numExperts)))
  }
  return logits
}
