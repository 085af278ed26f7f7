/** Types of 256 elements whose groups have small integers as scales, times an f16 of the block: the K-quants and IQ4_XS. */

import { f16ToNumber } from '../../../block/dtype.js'
import { type GgmlBlock, type GgmlLayouts, integersFrom, lowThenHigh, NON_LINEAR } from './block.js'

/** 64 bytes, two bits an element: 32 bytes are 128 elements, of which the lowest bits are the first 32. */
function addTwoBits(bytes: DataView, at: number, shift: number, codes: Uint8Array): void {
  for (let k = 0; k < 64; k++) {
    const byte = bytes.getUint8(at + k)
    const first = (k >> 5) * 128 + (k & 31)
    for (let pair = 0; pair < 4; pair++) codes[first + 32 * pair]! |= ((byte >> (2 * pair)) & 3) << shift
  }
}

/** 32 bytes, one bit an element: bit b of byte k is element 32 b + k. */
function addOneBit(bytes: DataView, at: number, shift: number, codes: Uint8Array): void {
  for (let k = 0; k < 32; k++) {
    const byte = bytes.getUint8(at + k)
    for (let bit = 0; bit < 8; bit++) codes[32 * bit + k]! |= ((byte >> bit) & 1) << shift
  }
}

/** 128 bytes: of every 32 the low nibbles are 32 elements, the high ones the next 32. */
function putNibbles(bytes: DataView, at: number, codes: Uint8Array): void {
  for (let part = 0; part < 4; part++) lowThenHigh(bytes, at + 32 * part, 32, codes, 64 * part)
}

/** `d` and `dmin`; the minimum is subtracted. */
function readFactors(bytes: DataView, at: number, block: GgmlBlock): void {
  block.scale = f16ToNumber(bytes.getUint16(at, true))
  block.offset = -f16ToNumber(bytes.getUint16(at + 2, true))
}

/** Eight six-bit scales and minima in twelve bytes, as three words of four each. */
function readKScales(bytes: DataView, at: number, block: GgmlBlock): void {
  for (let j = 0; j < 4; j++) {
    const [scale, minimum, both] = [0, 4, 8].map(word => bytes.getUint8(at + word + j)) as [
      number,
      number,
      number,
    ]
    block.scales[j] = scale % 64
    block.offsets[j] = minimum % 64
    block.scales[j + 4] = (both % 16) + 16 * Math.floor(scale / 64)
    block.offsets[j + 4] = Math.floor(both / 16) + 16 * Math.floor(minimum / 64)
  }
}

export const SUPER_LAYOUTS: GgmlLayouts = {
  Q2_K: {
    groupSize: 16,
    hasOffset: true,
    table: integersFrom(0, 4),
    unpack(bytes, at, block) {
      readFactors(bytes, at + 80, block)
      for (let group = 0; group < 16; group++) {
        const byte = bytes.getUint8(at + group)
        block.scales[group] = byte % 16
        block.offsets[group] = byte >> 4
      }
      block.codes.fill(0)
      addTwoBits(bytes, at + 16, 0, block.codes)
    },
  },
  Q3_K: {
    groupSize: 16,
    hasOffset: false,
    table: integersFrom(-4, 8),
    unpack(bytes, at, block) {
      block.scale = f16ToNumber(bytes.getUint16(at + 108, true))
      for (let group = 0; group < 16; group++) {
        const low = (bytes.getUint8(at + 96 + (group % 8)) >> (group < 8 ? 0 : 4)) & 15
        const high = (bytes.getUint8(at + 104 + (group % 4)) >> (2 * (group >> 2))) & 3
        block.scales[group] = low + 16 * high - 32
      }
      block.codes.fill(0)
      addTwoBits(bytes, at + 32, 0, block.codes)
      addOneBit(bytes, at, 2, block.codes)
    },
  },
  Q4_K: {
    groupSize: 32,
    hasOffset: true,
    table: integersFrom(0, 16),
    unpack(bytes, at, block) {
      readFactors(bytes, at, block)
      readKScales(bytes, at + 4, block)
      putNibbles(bytes, at + 16, block.codes)
    },
  },
  Q5_K: {
    groupSize: 32,
    hasOffset: true,
    table: integersFrom(0, 32),
    unpack(bytes, at, block) {
      readFactors(bytes, at, block)
      readKScales(bytes, at + 4, block)
      putNibbles(bytes, at + 48, block.codes)
      addOneBit(bytes, at + 16, 4, block.codes)
    },
  },
  Q6_K: {
    groupSize: 16,
    hasOffset: false,
    table: integersFrom(-32, 64),
    unpack(bytes, at, block) {
      block.scale = f16ToNumber(bytes.getUint16(at + 208, true))
      for (let group = 0; group < 16; group++) block.scales[group] = bytes.getInt8(at + 192 + group)
      for (const half of [0, 1]) lowThenHigh(bytes, at + 64 * half, 64, block.codes, 128 * half)
      addTwoBits(bytes, at + 128, 4, block.codes)
    },
  },
  IQ4_XS: {
    groupSize: 32,
    hasOffset: false,
    table: NON_LINEAR,
    unpack(bytes, at, block) {
      block.scale = f16ToNumber(bytes.getUint16(at, true))
      const [high, low] = [bytes.getUint16(at + 2, true), bytes.getUint32(at + 4, true)]
      for (let group = 0; group < 8; group++) {
        block.scales[group] = ((low >>> (4 * group)) & 15) + 16 * ((high >>> (2 * group)) & 3) - 32
        lowThenHigh(bytes, at + 8 + 16 * group, 16, block.codes, 32 * group)
      }
    },
  },
}
