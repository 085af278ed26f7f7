/**
 * Quantising in blocks of 32 columns with an f16 scale each, by the arithmetic of ggml's Q8_0 and Q4_0; the addon does the same
 * (csrc/formats/quantize.h) and gives the same bits.
 */

import { allocate } from './allocate.js'
import { f16ToNumber, numberToF16 } from './dtype.js'

/** Columns that share a scale. */
export const QUANTIZED_BLOCK = 32

/** 8 or 4 bits per weight. */
export type QuantizedBits = 8 | 4

const f32 = Math.fround
/** Bits of an f16 that is no number: the scale of a block that holds one. */
const NAN_F16 = 0x7e00

/** Writes codes (int8: two's complement; int4: 0 … 15) of `count` values; returns the bits of their f16 scale. */
export function quantizeBlock(
  bits: QuantizedBits,
  values: Float32Array,
  offset: number,
  count: number,
  codes: Uint8Array,
  codesOffset: number,
): number {
  let magnitude = 0
  let extreme = 0
  let areFinite = true
  for (let i = offset; i < offset + count; i++) {
    const value = values[i]!
    if (!Number.isFinite(value)) areFinite = false
    if (Math.abs(value) > magnitude) {
      magnitude = Math.abs(value)
      extreme = value
    }
  }
  if (!areFinite) {
    codes.fill(bits === 8 ? 1 : 0, codesOffset, codesOffset + count)
    return NAN_F16
  }
  const scale = f32(bits === 8 ? magnitude / 127 : extreme / -8)
  const inverse = scale === 0 ? 0 : f32(1 / scale)
  for (let i = 0; i < count; i++) {
    const scaled = f32(values[offset + i]! * inverse)
    codes[codesOffset + i] =
      bits === 8
        ? Math.sign(scaled) * Math.floor(Math.abs(scaled) + 0.5)
        : Math.min(15, Math.trunc(f32(scaled + 8.5)))
  }
  return numberToF16(scale)
}

/** Replaces the values of one row by those of their codes. */
export function roundThroughCodes(
  bits: QuantizedBits,
  values: Float32Array,
  offset: number,
  cols: number,
): void {
  const codes = allocate(Uint8Array, QUANTIZED_BLOCK)
  for (let begin = 0; begin < cols; begin += QUANTIZED_BLOCK) {
    const count = Math.min(QUANTIZED_BLOCK, cols - begin)
    const scale = f16ToNumber(quantizeBlock(bits, values, offset + begin, count, codes, 0))
    for (let i = 0; i < count; i++) {
      const code = bits === 8 ? (codes[i]! << 24) >> 24 : codes[i]! - 8
      values[offset + begin + i] = code * scale
    }
  }
}
