import { describe, expect, it } from 'vitest'
import {
  allocateArray,
  bf16ToNumber,
  dtypeBytes,
  f16ToNumber,
  fromFloat32,
  numberToBf16,
  numberToF16,
  readElement,
  toFloat32,
  writeElement,
} from '../../lib/block/dtype.js'

const formats = [
  { name: 'bf16', toNumber: bf16ToNumber, toBits: numberToBf16, infinity: 0x7f80 },
  { name: 'f16', toNumber: f16ToNumber, toBits: numberToF16, infinity: 0x7c00 },
]

describe.each(formats)('$name', ({ toNumber, toBits, infinity }) => {
  it('gives back each of the 65536 patterns', () => {
    for (let bits = 0; bits < 65536; bits++) {
      const value = toNumber(bits)
      if ((bits & 0x7fff) > infinity) {
        expect(value).toBeNaN()
        expect(toBits(value) & 0x7fff).toBeGreaterThan(infinity)
      } else if (toBits(value) !== bits) expect.fail(`${bits.toString(16)} came back as ${toBits(value)}`)
    }
  })

  it('rises with its bits', () => {
    for (let bits = 1; bits <= infinity; bits++)
      if (!(toNumber(bits) > toNumber(bits - 1))) expect.fail(`at ${bits.toString(16)}`)
  })

  it('rounds halfway to even, and anything past halfway away, at every finite pattern of both signs', () => {
    for (let bits = 0; bits < infinity - 1; bits++) {
      const low = toNumber(bits)
      const high = toNumber(bits + 1)
      const middle = (low + high) / 2
      const even = bits % 2 === 0 ? bits : bits + 1
      // One part in 2^50: lost by a rounding to f32 on the way, but not by a single rounding.
      const above = middle * (1 + 2 ** -50)
      const below = middle * (1 - 2 ** -50)
      const got = [toBits(middle), toBits(above), toBits(below), toBits(-middle)]
      const want = [even, bits + 1, bits, even | 0x8000]
      if (got.some((g, i) => g !== want[i])) expect.fail(`at ${bits.toString(16)}: ${got}, expected ${want}`)
    }
  })

  it('overflows to infinity from half a step past the greatest', () => {
    const greatest = toNumber(infinity - 1)
    const step = greatest - toNumber(infinity - 2)
    expect(toBits(greatest + step * 0.4999)).toBe(infinity - 1)
    expect(toBits(greatest + step / 2)).toBe(infinity)
    expect(toBits(-1e300)).toBe(infinity | 0x8000)
    expect(toBits(Number.POSITIVE_INFINITY)).toBe(infinity)
  })

  it('keeps the sign of zero', () => {
    expect(Object.is(toNumber(toBits(-0)), -0)).toBe(true)
    expect(Object.is(toNumber(toBits(-1e-300)), -0)).toBe(true)
  })
})

describe('known values', () => {
  it.each([
    [1, 0x3f80, 0x3c00],
    [-2.5, 0xc020, 0xc100],
    [65504, 0x4780, 0x7bff],
    [2 ** -24, 0x3380, 0x0001],
    [0.1, 0x3dcd, 0x2e66],
  ])('%f', (value, bf16, f16) => {
    expect(numberToBf16(value)).toBe(bf16)
    expect(numberToF16(value)).toBe(f16)
  })
})

describe('arrays', () => {
  it('reads and writes through each dtype', () => {
    for (const dtype of ['f32', 'f16', 'bf16'] as const) {
      const array = allocateArray(dtype, 2)
      expect(array.byteLength).toBe(2 * dtypeBytes(dtype))
      writeElement(array, 1, dtype, -1.5)
      expect([readElement(array, 0, dtype), readElement(array, 1, dtype)]).toEqual([0, -1.5])
    }
  })

  it('widens exactly and rounds back', () => {
    const values = Float32Array.of(0.25, -3, 1024)
    for (const dtype of ['f16', 'bf16'] as const)
      expect(toFloat32(fromFloat32(values, dtype), dtype)).toEqual(values)
    expect(fromFloat32(values, 'f32')).toBe(values)
    expect(toFloat32(values, 'f32')).toBe(values)
  })
})
