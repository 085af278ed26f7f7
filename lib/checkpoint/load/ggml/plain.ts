/** Types of 32 elements with one f16 scale: Q4_0, Q4_1, Q5_0, Q5_1, Q8_0, IQ4_NL. */

import { f16ToNumber } from '../../../block/dtype.js'
import { type GgmlLayout, type GgmlLayouts, integersFrom, lowThenHigh, NON_LINEAR } from './block.js'

const SIGNED_BYTES = Float32Array.from({ length: 256 }, (_, code) => (code < 128 ? code : code - 256))

/** d, then m where there is an offset, then the fifth bits where there are some, then nibbles. */
function nibbles(table: Float32Array, hasOffset: boolean, hasFifthBit: boolean): GgmlLayout {
  return {
    groupSize: 32,
    hasOffset,
    table,
    unpack(bytes, at, block) {
      let position = at
      const next = (size: number) => (position += size) - size
      block.scale = f16ToNumber(bytes.getUint16(next(2), true))
      block.scales[0] = 1
      if (hasOffset) {
        block.offset = f16ToNumber(bytes.getUint16(next(2), true))
        block.offsets[0] = 1
      }
      const fifth = hasFifthBit ? bytes.getUint32(next(4), true) : 0
      lowThenHigh(bytes, position, 16, block.codes, 0)
      if (hasFifthBit) for (let j = 0; j < 32; j++) block.codes[j]! |= ((fifth >>> j) & 1) << 4
    },
  }
}

export const PLAIN_LAYOUTS: GgmlLayouts = {
  Q4_0: nibbles(integersFrom(-8, 16), false, false),
  Q4_1: nibbles(integersFrom(0, 16), true, false),
  Q5_0: nibbles(integersFrom(-16, 32), false, true),
  Q5_1: nibbles(integersFrom(0, 32), true, true),
  IQ4_NL: nibbles(NON_LINEAR, false, false),
  Q8_0: {
    groupSize: 32,
    hasOffset: false,
    table: SIGNED_BYTES,
    unpack(bytes, at, block) {
      block.scale = f16ToNumber(bytes.getUint16(at, true))
      block.scales[0] = 1
      for (let j = 0; j < 32; j++) block.codes[j] = bytes.getUint8(at + 2 + j)
    },
  },
}
