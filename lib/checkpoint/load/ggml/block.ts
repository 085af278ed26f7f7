/** A block of one of ggml's tensor types, taken apart. */

import type { StoredType } from '../../../spec/formats.js'

/**
 * Element j is, with `g = floor(j / groupSize)`, `table[codes[j]] * (scale * scales[g])`, and `offset * offsets[g]` more where the type has
 * offsets, each operation rounded to f32.
 */
export interface GgmlBlock {
  codes: Uint8Array
  scales: Float32Array
  offsets: Float32Array
  scale: number
  offset: number
}

/** How one type lays out its blocks; their bytes and elements are in `spec/formats.ts`. */
export interface GgmlLayout {
  /** Elements that share a scale. */
  groupSize: number
  hasOffset: boolean
  /** What each code stands for. */
  table: ArrayLike<number>
  /** Takes the block that begins at byte `at` apart. */
  unpack(bytes: DataView, at: number, block: GgmlBlock): void
}

/** Some of the types. */
export type GgmlLayouts = Partial<Record<StoredType, GgmlLayout>>

/** Whole numbers from `first`, by code. */
export const integersFrom = (first: number, count: number) =>
  Float32Array.from({ length: count }, (_, code) => first + code)

/** The 16 values of IQ4_NL and IQ4_XS. None is 0. */
export const NON_LINEAR = Float32Array.of(
  ...[-127, -104, -83, -65, -49, -35, -22, -10],
  ...[1, 13, 25, 38, 53, 69, 89, 113],
)

/** `2 * count` elements from `count` bytes: the low nibbles, then the high ones. */
export function lowThenHigh(bytes: DataView, at: number, count: number, codes: Uint8Array, to: number): void {
  for (let j = 0; j < count; j++) {
    const byte = bytes.getUint8(at + j)
    codes[to + j] = byte & 15
    codes[to + count + j] = byte >> 4
  }
}
