/** Rows of activations as codes of 8 bits: the arithmetic of `activations: 'int8'`, whose products are then summed exactly. */

import { allocate } from '../block/allocate.js'

/** Columns that share a scale. */
const BLOCK = 32
/** Magnitudes of less count as zero: from here on every number below is a normal one of f32. */
const LEAST_MAGNITUDE = 2 ** -119

const f32 = Math.fround

/** Adding and taking away 1.5 · 2^52 rounds a small double to an integer, ties to even. */
const ROUNDING = 6755399441055744
const nearest = (value: number) => value + ROUNDING - ROUNDING

/**
 * What the codes of a row stand for. In each block of 32 columns, all in f32: the scale is the largest magnitude / 127, a code the nearest
 * integer to value · (127 / that magnitude), ties to even. A value that is not finite makes its block NaN.
 *
 * @param row values of f32, or doubles that become such
 * @param order blocks are of 32 columns `order[0]`, `order[1]` …; null: as they stand
 */
export function throughInt8(row: Float64Array, order: Int32Array | null): Float64Array {
  const out = allocate(Float64Array, row.length)
  const at = (i: number) => (order ? order[i]! : i)
  for (let begin = 0; begin < row.length; begin += BLOCK) {
    const end = Math.min(begin + BLOCK, row.length)
    let magnitude = 0
    let areFinite = true
    for (let i = begin; i < end; i++) {
      const value = f32(row[at(i)]!)
      if (!Number.isFinite(value)) areFinite = false
      magnitude = Math.max(magnitude, Math.abs(value))
    }
    const isZero = magnitude < LEAST_MAGNITUDE
    const scale = !areFinite ? Number.NaN : isZero ? 0 : f32(magnitude / 127)
    const inverse = isZero ? 0 : f32(127 / magnitude)
    for (let i = begin; i < end; i++) out[at(i)] = nearest(f32(f32(row[at(i)]!) * inverse)) * scale
  }
  return out
}
