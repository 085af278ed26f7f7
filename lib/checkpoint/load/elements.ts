/** Decodes single elements of the stored number formats into f32, exactly. */

import { allocate } from '../../block/allocate.js'
import { bf16ToNumber, f16ToNumber } from '../../block/dtype.js'
import type { StoredType } from '../../spec/formats.js'

/** e4m3fn: bias 7, no infinity, 0x7f and 0xff are NaN. */
export const E4M3 = Float32Array.from({ length: 256 }, (_, code) => {
  const exponent = (code >> 3) & 15
  const mantissa = code & 7
  if (exponent === 15 && mantissa === 7) return Number.NaN
  const magnitude = exponent === 0 ? mantissa * 2 ** -9 : (1 + mantissa / 8) * 2 ** (exponent - 7)
  return code & 0x80 ? -magnitude : magnitude
})

/** e5m2: the upper byte of an f16, infinities and NaN too. */
export const E5M2 = Float32Array.from({ length: 256 }, (_, code) => f16ToNumber(code << 8))

/** e8m0: 2^(code - 127), 255 is NaN. */
export const E8M0 = Float32Array.from({ length: 256 }, (_, code) =>
  code === 255 ? Number.NaN : 2 ** (code - 127),
)

/** e2m1: bit 3 is the sign. */
export const E2M1 = Float32Array.of(0, 0.5, 1, 1.5, 2, 3, 4, 6, -0, -0.5, -1, -1.5, -2, -3, -4, -6)

type Constructor<T> = {
  new (buffer: ArrayBufferLike, offset: number, length: number): T
  BYTES_PER_ELEMENT: number
}

function viewAs<T>(bytes: Uint8Array, type: Constructor<T>): T {
  const size = type.BYTES_PER_ELEMENT
  const aligned = bytes.byteOffset % size === 0 ? bytes : allocate(Uint8Array, bytes)
  return new type(aligned.buffer, aligned.byteOffset, aligned.byteLength / size)
}

/** 32-bit words of a packed tensor. */
export function wordsOf(bytes: Uint8Array): Uint32Array {
  return viewAs(bytes, Uint32Array)
}

/** Signed 32-bit elements. */
export function int32Of(bytes: Uint8Array): Int32Array {
  return viewAs(bytes, Int32Array)
}

/** 64-bit elements. */
export function int64Of(bytes: Uint8Array): BigInt64Array {
  return viewAs(bytes, BigInt64Array)
}

/** Reads element `index` of a stored float tensor, as a number that f32 holds exactly. */
export function elementReader(bytes: Uint8Array, type: StoredType): (index: number) => number {
  switch (type) {
    case 'F32': {
      const values = viewAs(bytes, Float32Array)
      return index => values[index]!
    }
    case 'BF16': {
      const bits = viewAs(bytes, Uint16Array)
      return index => bf16ToNumber(bits[index]!)
    }
    case 'F16': {
      const bits = viewAs(bytes, Uint16Array)
      return index => f16ToNumber(bits[index]!)
    }
    case 'F8_E4M3':
      return index => E4M3[bytes[index]!]!
    case 'F8_E5M2':
      return index => E5M2[bytes[index]!]!
    case 'F8_E8M0':
    case 'U8':
      return index => E8M0[bytes[index]!]!
    default:
      throw new TypeError(`${type} is not a float format`)
  }
}
