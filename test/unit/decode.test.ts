/** Number formats and codecs against values worked out by hand. */

import { describe, expect, it } from 'vitest'
import { numberToBf16, numberToF16 } from '../../lib/block/dtype.js'
import { decodeMatrix } from '../../lib/checkpoint/load/decode.js'
import { E2M1, E4M3, E5M2, E8M0 } from '../../lib/checkpoint/load/elements.js'
import type { EncodedBuffer, EncodedBuffers } from '../../lib/checkpoint/load/encoded.js'
import type { MatrixEncoding } from '../../lib/checkpoint/plan/layer-plan.js'
import type { StoredType } from '../../lib/spec/formats.js'

const bytesOf = (array: ArrayBufferView) => new Uint8Array(array.buffer, array.byteOffset, array.byteLength)
const stored = (type: StoredType, array: ArrayBufferView): EncodedBuffer => ({ type, bytes: bytesOf(array) })
const f32 = (...values: number[]) => stored('F32', Float32Array.from(values))
const f16 = (...values: number[]) => stored('F16', Uint16Array.from(values, numberToF16))
const bf16 = (...values: number[]) => stored('BF16', Uint16Array.from(values, numberToBf16))
const fp8 = (...codes: number[]) => stored('F8_E4M3', Uint8Array.from(codes))
const words = (...values: number[]) => stored('I32', Uint32Array.from(values))

describe('number formats', () => {
  it('e4m3: all 256 codes', () => {
    for (let code = 0; code < 128; code++) {
      const [exponent, mantissa] = [code >> 3, code & 7]
      const value = exponent === 0 ? (mantissa / 8) * 2 ** -6 : 2 ** (exponent - 7) * (1 + mantissa / 8)
      const expected = code === 0x7f ? Number.NaN : value
      expect(E4M3[code]).toBe(expected)
      expect(E4M3[code | 0x80]).toBe(code === 0x7f ? Number.NaN : -expected)
    }
    expect([E4M3[0x7e], E4M3[1], E4M3[8], E4M3[0x38], E4M3[0xbc]]).toEqual([448, 2 ** -9, 2 ** -6, 1, -1.5])
    expect(E4M3.filter(Number.isNaN)).toHaveLength(2)
  })

  it('e5m2: all 256 codes', () => {
    for (let code = 0; code < 128; code++) {
      const [exponent, mantissa] = [code >> 2, code & 3]
      const value = exponent === 0 ? (mantissa / 4) * 2 ** -14 : 2 ** (exponent - 15) * (1 + mantissa / 4)
      const special = mantissa === 0 ? Number.POSITIVE_INFINITY : Number.NaN
      const expected = exponent === 31 ? special : value
      expect(E5M2[code]).toBe(expected)
      expect(E5M2[code | 0x80]).toBe(-expected)
    }
  })

  it('e8m0: all 256 codes', () => {
    for (let code = 0; code < 255; code++) expect(E8M0[code]).toBe(2 ** (code - 127))
    expect(E8M0[0]).toBeGreaterThan(0)
    expect(E8M0[255]).toBeNaN()
  })

  it('e2m1: all 16 codes', () => {
    const magnitudes = [0, 0.5, 1, 1.5, 2, 3, 4, 6]
    expect(Array.from(E2M1)).toEqual([...magnitudes, ...magnitudes.map(value => -value)])
  })
})

describe('float', () => {
  it('reads every type, in both orders', () => {
    for (const make of [f32, f16, bf16]) {
      const data = make(1, -2, 0.5, 4, 8, -16)
      expect(Array.from(decodeMatrix({ codec: 'float' }, { data }, 2, 3))).toEqual([1, -2, 0.5, 4, 8, -16])
      const transposed = decodeMatrix({ codec: 'float', transposed: true }, { data }, 2, 3)
      expect(Array.from(transposed)).toEqual([1, 0.5, 8, -2, 4, -16])
    }
  })

  it('multiplies the scale of each column last, of whatever codec', () => {
    const columnScale = bf16(2, -1, 0.5)
    const data = fp8(0x38, 0x40, 0x44, 0xb8, 0xc0, 0xc4)
    const block = { rows: 2, cols: 3 }
    const out = decodeMatrix({ codec: 'float', block }, { data, scale: f32(10), columnScale }, 2, 3)
    expect(Array.from(out)).toEqual([20, -20, 15, -20, 20, -15])
    // (3 * fl(1/3)) is rounded to f32 before the column's 3 multiplies it: two roundings, not one.
    const third = Math.fround(1 / 3)
    const pairs = stored('U8', Uint8Array.of(0x55))
    const e2m1 = decodeMatrix(
      { codec: 'e2m1', block: { rows: 1, cols: 2 }, globalScaleOp: 'multiply' },
      { data: pairs, scale: fp8(0x38), globalScale: f32(third), columnScale: f32(3, third) },
      1,
      2,
    )
    const once = Math.fround(3 * third)
    expect(Array.from(e2m1)).toEqual([Math.fround(once * 3), Math.fround(once * third)])
  })

  it('multiplies the scale of each block, ragged ones at the edges too', () => {
    const data = fp8(...Array.from({ length: 15 }, () => 0x38))
    const scale = f32(1, 2, 3, 4, 5, 6)
    const out = decodeMatrix({ codec: 'float', block: { rows: 2, cols: 2 } }, { data, scale }, 3, 5)
    expect(Array.from(out)).toEqual([1, 1, 2, 2, 3, 1, 1, 2, 2, 3, 4, 4, 5, 5, 6])
  })

  it('scales per row, per matrix, and by powers of two', () => {
    const data = fp8(0x38, 0x40, 0x44, 0xb8)
    const decode = (rows: number, cols: number, scale: EncodedBuffer) =>
      Array.from(decodeMatrix({ codec: 'float', block: { rows, cols } }, { data, scale }, 2, 2))
    expect(decode(1, 2, bf16(2, 0.5))).toEqual([2, 4, 1.5, -0.5])
    expect(decode(2, 2, f16(0.25))).toEqual([0.25, 0.5, 0.75, -0.25])
    expect(decode(128, 128, stored('F8_E8M0', Uint8Array.of(129)))).toEqual([4, 8, 12, -4])
  })

  it('reads data that is not aligned', () => {
    const bytes = new Uint8Array(17)
    bytes.set(bytesOf(Float32Array.of(1, 2, 3, 4)), 1)
    const out = decodeMatrix({ codec: 'float' }, { data: { type: 'F32', bytes: bytes.subarray(1) } }, 2, 2)
    expect(Array.from(out)).toEqual([1, 2, 3, 4])
  })
})

describe('e2m1', () => {
  const encoding = { codec: 'e2m1', block: { rows: 1, cols: 4 } } as const

  it('has the lower nibble first', () => {
    const data = stored('U8', Uint8Array.of(0x21, 0xf7, 0x98, 0x65))
    const scale = stored('F8_E8M0', Uint8Array.of(128, 126))
    const out = decodeMatrix(encoding, { data, scale }, 1, 8)
    expect(Array.from(out)).toEqual([1, 2, 12, -12, -0, -0.25, 1.5, 2])
    expect(Object.is(out[4], -0)).toBe(true)
  })

  it('multiplies or divides the global scale into the scale of the block', () => {
    const data = stored('I8', Int8Array.of(0x77, 0x77))
    const scale = fp8(0x38)
    const globalScale = f32(3)
    const decode = (globalScaleOp: 'multiply' | 'divide') =>
      decodeMatrix({ ...encoding, globalScaleOp }, { data, scale, globalScale }, 1, 4)
    expect(decode('multiply')[0]).toBe(18)
    expect(decode('divide')[0]).toBe(Math.fround(6 * Math.fround(1 / 3)))
  })
})

describe('packedInt', () => {
  it('counts from the lowest bits and subtracts 8', () => {
    const buffers = { data: words(0x76543210, 0x000000fe), scale: f32(2, 10) }
    const encoding = { codec: 'packedInt', bits: 4, block: { rows: 1, cols: 8 } } as const
    expect(Array.from(decodeMatrix(encoding, buffers, 1, 10))).toEqual([
      -16, -14, -12, -10, -8, -6, -4, -2, 60, 70,
    ])
  })

  it('subtracts 128 of bytes', () => {
    const buffers = { data: words(0xff80017f), scale: f32(1) }
    const encoding = { codec: 'packedInt', bits: 8, block: { rows: 1, cols: 4 } } as const
    expect(Array.from(decodeMatrix(encoding, buffers, 1, 4))).toEqual([-1, -127, 0, 127])
  })

  it('has zero points along the rows, and groups by index', () => {
    // Two rows of four columns in two groups; zeros of row 0 are 1 and 2, of row 1 are 3 and 4.
    const buffers: EncodedBuffers = {
      data: words(0x5555, 0x5555),
      scale: f32(1, 10, 100, 1000),
      zeroPoint: words(0x31, 0x42),
      groupIndex: stored('I32', Int32Array.of(0, 1, 1, 0)),
    }
    const out = decodeMatrix({ codec: 'packedInt', bits: 4, block: { rows: 1, cols: 2 } }, buffers, 2, 4)
    expect(Array.from(out)).toEqual([4, 30, 30, 4, 200, 1000, 1000, 200])
  })
})

describe('int8', () => {
  it('is signed, with a zero point where there is one', () => {
    const buffers = { data: stored('I8', Int8Array.of(-128, 127, -1, 2)), scale: f32(1, 0.5) }
    const encoding = { codec: 'int8', block: { rows: 2, cols: 1 } } as const
    expect(Array.from(decodeMatrix(encoding, buffers, 2, 2))).toEqual([-128, 63.5, -1, 1])
    const zeroPoint = stored('I8', Int8Array.of(-2, 100))
    expect(Array.from(decodeMatrix(encoding, { ...buffers, zeroPoint }, 2, 2))).toEqual([-126, 13.5, 1, -49])
  })
})

describe('int4 of ModelOpt', () => {
  it('has two rows to a byte, with the sign in the nibble', () => {
    const data = stored('U8', Uint8Array.of(0x81, 0x7f, 0xe0))
    const scale = f32(1, 10, 2, 20)
    const out = decodeMatrix({ codec: 'int4Rows', block: { rows: 1, cols: 2 } }, { data, scale }, 2, 3)
    expect(Array.from(out)).toEqual([1, -1, 0, -16, 14, -40])
  })
})

describe('awq and gptq', () => {
  it('awq spreads eight outputs over a word in its own order', () => {
    const buffers = { data: words(0x76543210), zeroPoint: words(0), scale: f16(1, 1, 1, 1, 1, 1, 1, 1) }
    const out = decodeMatrix({ codec: 'awq', block: { rows: 1, cols: 1 } }, buffers, 8, 1)
    expect(Array.from(out)).toEqual([0, 4, 1, 5, 2, 6, 3, 7])
  })

  it('awq takes zeros and scales of the group', () => {
    const buffers = {
      data: words(0x99999999, 0x99999999),
      zeroPoint: words(0x11111111, 0x22222222),
      scale: f16(...Array.from({ length: 16 }, (_, i) => (i < 8 ? 1 : 0.5))),
    }
    const out = decodeMatrix({ codec: 'awq', block: { rows: 1, cols: 1 } }, buffers, 8, 2)
    expect(Array.from(out.subarray(0, 2))).toEqual([8, 3.5])
  })

  it('awq with the sign in the nibble, as Quark stores it; without zero points it is symmetric', () => {
    const data = words(0xfedcba98)
    const scale = f16(...Array.from({ length: 8 }, () => 0.5))
    const block = { rows: 1, cols: 1 }
    const signed = decodeMatrix({ codec: 'awq', signed: true, block }, { data, scale }, 8, 1)
    expect(Array.from(signed)).toEqual([-4, -2, -3.5, -1.5, -3, -1, -2.5, -0.5])
    // Every zero point is -1.
    const zeroPoint = words(0xffffffff)
    const shifted = decodeMatrix({ codec: 'awq', signed: true, block }, { data, scale, zeroPoint }, 8, 1)
    expect(Array.from(shifted)).toEqual(Array.from(signed, value => value + 0.5))
    const unsigned = decodeMatrix({ codec: 'awq', block }, { data, scale }, 8, 1)
    expect(Array.from(unsigned)).toEqual([0, 2, 0.5, 2.5, 1, 3, 1.5, 3.5])
  })

  it('gptq of three bits lies in words without gaps', () => {
    // Input i of output 0 is i mod 8, of output 1 it is 7 - i mod 8: 96 bits each, the first input lowest.
    const pack = (values: number[]) => {
      const all = values.reduce((sum, value, i) => sum | (BigInt(value) << BigInt(3 * i)), 0n)
      return Array.from({ length: (3 * values.length) / 32 }, (_, i) =>
        Number((all >> BigInt(32 * i)) & 0xffffffffn),
      )
    }
    const inputs = Array.from({ length: 32 }, (_, i) => i % 8)
    const [up, down] = [pack(inputs), pack(inputs.map(value => 7 - value))]
    const data = words(...up.flatMap((word, i) => [word, down[i]!]))
    const block = { rows: 1, cols: 32 }
    const out = decodeMatrix({ codec: 'gptq', bits: 3, block }, { data, scale: f16(1, 2) }, 2, 32)
    expect(Array.from(out)).toEqual([...inputs.map(q => q - 4), ...inputs.map(q => (7 - q - 4) * 2)])

    // 32 outputs of zeros, whose zero points are 0 … 7 in turn, as they are and less one.
    const zeros = (stored: number[], zeroOffset: 0 | 1) =>
      Array.from(
        decodeMatrix(
          { codec: 'gptq', bits: 3, block, zeroOffset },
          {
            data: words(...Array.from({ length: 96 }, () => 0)),
            scale: f16(...Array.from({ length: 32 }, () => -1)),
            zeroPoint: words(...pack(stored)),
          },
          32,
          32,
        ),
      ).flatMap((value, i) => (i % 32 === 5 ? [Math.abs(value)] : []))
    expect(zeros(inputs, 0)).toEqual(inputs)
    expect(
      zeros(
        inputs.map(value => (value + 7) % 8),
        1,
      ),
    ).toEqual(inputs)
  })

  it('gptq packs eight inputs into a word in plain order; zeros are stored minus one, or not', () => {
    const buffers = {
      data: words(...Array.from({ length: 8 }, (_, i) => 0x76543210 + i)),
      zeroPoint: words(0x76543210),
      scale: f16(...Array.from({ length: 8 }, () => 2)),
    }
    const block = { rows: 1, cols: 8 }
    const v1 = decodeMatrix({ codec: 'gptq', block, zeroOffset: 1 }, buffers, 8, 8)
    expect(Array.from(v1.subarray(0, 8))).toEqual([-2, 0, 2, 4, 6, 8, 10, 12])
    // Row 3: nibble 0 of its words is 3, its zero is 3 + 1.
    expect(Array.from(v1.subarray(24, 26))).toEqual([-2, -6])
    const v2 = decodeMatrix({ codec: 'gptq', block, zeroOffset: 0 }, buffers, 8, 8)
    expect(Array.from(v2.subarray(24, 26))).toEqual([0, -4])
  })

  it('gptq zero points of 0 that borrowed from their neighbours come back', () => {
    // Zeros 8 0 0 5 15 0 1 0, lowest first, minus 0x11111111 as one word.
    const stored = (0x0_10f_5008 - 0x1111_1111) >>> 0
    const buffers = {
      data: words(...Array.from({ length: 8 }, () => 0)),
      zeroPoint: words(stored),
      scale: f16(...Array.from({ length: 8 }, () => 1)),
    }
    const out = decodeMatrix({ codec: 'gptq', block: { rows: 1, cols: 8 }, zeroOffset: 1 }, buffers, 8, 8)
    const zeros = (values: Float32Array, size: number) =>
      Array.from({ length: size }, (_, row) => 0 - values[row * size]!)
    expect(zeros(out, 8)).toEqual([8, 0, 0, 5, 15, 0, 1, 0])
    const bytes = {
      ...buffers,
      data: words(0, 0, 0, 0),
      zeroPoint: words((0x80_00_00_01 - 0x01010101) >>> 0),
    }
    const eight = decodeMatrix(
      { codec: 'gptq', bits: 8, block: { rows: 1, cols: 4 }, zeroOffset: 1 },
      { ...bytes, scale: f16(1, 1, 1, 1) },
      4,
      4,
    )
    expect(zeros(eight, 4)).toEqual([1, 0, 0, 128])
  })

  it('gptq without zero points is symmetric: 2, 8 and 128', () => {
    for (const [bits, middle] of [
      [2, 2],
      [4, 8],
      [8, 128],
    ] as const) {
      const size = 32 / bits
      const out = decodeMatrix(
        { codec: 'gptq', bits, block: { rows: 1, cols: size }, zeroOffset: 1 },
        {
          data: words(...Array.from({ length: size }, () => 0)),
          scale: f16(...Array.from({ length: size }, () => -1)),
        },
        size,
        size,
      )
      expect(out.every(value => value === middle)).toBe(true)
    }
  })

  it('gptq follows the index of groups in any order', () => {
    const buffers = {
      data: words(...Array.from({ length: 8 }, () => 0x99999999)),
      zeroPoint: words(0x11111111, 0x22222222),
      scale: f16(...Array.from({ length: 16 }, (_, i) => (i < 8 ? 1 : 100))),
      groupIndex: stored('I32', Int32Array.of(1, 0, 0, 1, 1, 0, 1, 0)),
    }
    const out = decodeMatrix({ codec: 'gptq', block: { rows: 1, cols: 4 }, zeroOffset: 0 }, buffers, 8, 8)
    expect(Array.from(out.subarray(0, 8))).toEqual([700, 8, 8, 700, 700, 8, 700, 8])
  })
})

describe('what does not fit is refused', () => {
  const data = f32(1, 2, 3, 4)
  const word8 = words(1, 2, 3, 4, 5, 6, 7, 8)
  const scale8 = f16(1, 1, 1, 1, 1, 1, 1, 1)
  const gptq = { codec: 'gptq', block: { rows: 1, cols: 8 } } as const
  it.each<[string, MatrixEncoding, EncodedBuffers, number, number]>([
    ['data too short', { codec: 'float' }, { data }, 2, 3],
    ['data too long', { codec: 'float' }, { data }, 1, 3],
    ['integers as floats', { codec: 'float' }, { data: words(1, 2, 3, 4) }, 2, 2],
    ['a scale without blocks', { codec: 'float' }, { data, scale: f32(1) }, 2, 2],
    ['blocks without a scale', { codec: 'float', block: { rows: 2, cols: 2 } }, { data }, 2, 2],
    ['empty blocks', { codec: 'float', block: { rows: 0, cols: 2 } }, { data, scale: f32(1) }, 2, 2],
    ['too few scales', { codec: 'float', block: { rows: 1, cols: 2 } }, { data, scale: f32(1) }, 2, 2],
    ['an fp8 scale of fp8', { codec: 'float', block: { rows: 2, cols: 2 } }, { data, scale: fp8(1) }, 2, 2],
    ['a stray zero point', { codec: 'float' }, { data, zeroPoint: words(1) }, 2, 2],
    ['an odd row of nibbles', { codec: 'e2m1', block: { rows: 1, cols: 32 } }, { data, scale: fp8(1) }, 1, 3],
    ['signed elements of gptq', { ...gptq, signed: true }, { data: word8, scale: scale8 }, 8, 8],
    ['too few scales of columns', { codec: 'float' }, { data, columnScale: f32(1) }, 2, 2],
    ['integers as scales of columns', { codec: 'float' }, { data, columnScale: words(1, 1) }, 2, 2],
    ['24 inputs of 3 bits', { ...gptq, bits: 3 }, { data: words(0, 0), scale: f16(1) }, 1, 24],
    ['rows that do not pack', gptq, { data: word8, scale: scale8, zeroPoint: words(1) }, 9, 8],
    [
      'a group that does not exist',
      gptq,
      {
        data: word8,
        scale: scale8,
        zeroPoint: words(1),
        groupIndex: stored('I32', Int32Array.of(0, 0, 0, 1, 0, 0, 0, 0)),
      },
      8,
      8,
    ],
    [
      'a negative group',
      gptq,
      {
        data: word8,
        scale: scale8,
        zeroPoint: words(1),
        groupIndex: stored('I32', Int32Array.of(0, -1, 0, 0, 0, 0, 0, 0)),
      },
      8,
      8,
    ],
  ])('%s', (_, encoding, buffers, rows, cols) => {
    expect(() => decodeMatrix(encoding, buffers, rows, cols)).toThrow(
      expect.objectContaining({ code: 'ERR_MOE_INVALID_CHECKPOINT' }),
    )
  })
})
