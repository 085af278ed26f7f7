/** How far a device may be from double precision, and how that is measured. */

import type { ActivationsOption } from '../block/activations.js'
import type { DType } from '../block/dtype.js'

/** Largest ‖out − ref‖ / ‖ref‖ of a forward with f32 output against the reference, by the dtype of the expert weights. */
export const ERROR_BOUNDS: Readonly<Record<DType, number>> = { f32: 5e-6, f16: 1.5e-3, bf16: 8e-3 }

/** The same with `activations: 'int8'` against exact activations and the same weights, whatever the dtype. */
export const INT8_ACTIVATIONS_BOUND = 3e-2

/** The bound of a layer. */
export const errorBound = ({
  dtype,
  activations,
}: {
  dtype: DType
  activations: ActivationsOption
}): number =>
  activations === 'int8' ? Math.max(INT8_ACTIVATIONS_BOUND, ERROR_BOUNDS[dtype]) : ERROR_BOUNDS[dtype]

/** ‖actual − expected‖ / ‖expected‖ in double precision; NaN where either holds one, so that no comparison passes. */
export function relativeError(actual: ArrayLike<number>, expected: ArrayLike<number>): number {
  if (actual.length !== expected.length) return Number.NaN
  let difference = 0
  let norm = 0
  for (let i = 0; i < expected.length; i++) {
    difference += (actual[i]! - expected[i]!) ** 2
    norm += expected[i]! ** 2
  }
  if (norm === 0) return difference === 0 ? 0 : Number.POSITIVE_INFINITY
  return Math.sqrt(difference / norm)
}

/** Rows of two `[numTokens, topK]` arrays of ids that do not hold the same set of ids. */
export function rowsWithOtherIds(actual: Int32Array, expected: Int32Array, topK: number): number[] {
  const rows: number[] = []
  for (let begin = 0; begin < expected.length; begin += topK) {
    const a = actual.slice(begin, begin + topK).sort()
    const b = expected.slice(begin, begin + topK).sort()
    if (a.length !== b.length || a.some((id, k) => id !== b[k])) rows.push(begin / topK)
  }
  return rows
}
