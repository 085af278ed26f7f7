/** The dtypes f32, f16 and bf16: exact conversion between numbers and bits. */

import { allocate } from './allocate.js'
import { invalidArgType, invalidArgValue } from './errors.js'
import { isFloat32Array, isUint16Array } from './typed-arrays.js'

/** Element type of hidden states and expert matmuls. `f16` and `bf16` travel as their bits in a `Uint16Array`. */
export type DType = 'f32' | 'f16' | 'bf16'

/** Arrays that hold a {@link DType}: `Float32Array` is f32, `Uint16Array` the bits of the 16-bit dtype in question. */
export type FloatArray = Float32Array | Uint16Array

export const DTYPES: readonly DType[] = ['f32', 'f16', 'bf16']

/** Bytes of one element. */
export function dtypeBytes(dtype: DType): number {
  return dtype === 'f32' ? 4 : 2
}

const f32 = new Float32Array(1)
const u32 = new Uint32Array(f32.buffer)

/**
 * Puts `value` into the shared cell as f32 rounded to odd: inexact results get an odd last bit, so that a second rounding to fewer
 * bits gives what one rounding from the double would. Values that are f32 already are untouched.
 */
function setRoundedToOdd(value: number): void {
  f32[0] = value
  const nearest = f32[0]!
  if (nearest === value || Math.abs(nearest) === Number.POSITIVE_INFINITY || Number.isNaN(nearest)) return
  if ((u32[0]! & 1) === 0) u32[0] = u32[0]! + (Math.abs(nearest) < Math.abs(value) ? 1 : -1)
}

/** The number that a bfloat16 bit pattern stands for. */
export function bf16ToNumber(bits: number): number {
  if (typeof bits !== 'number') throw invalidArgType('bits', 'a number', bits)
  u32[0] = bits << 16
  return f32[0]!
}

/** Rounds once to the nearest bfloat16, ties to even; overflow gives infinity, NaN stays NaN. Returns the bits. */
export function numberToBf16(value: number): number {
  if (typeof value !== 'number') throw invalidArgType('value', 'a number', value)
  setRoundedToOdd(value)
  const bits = u32[0]!
  if ((bits & 0x7fffffff) > 0x7f800000) return (bits >>> 16) | 0x40
  return ((bits + 0x7fff + ((bits >>> 16) & 1)) >>> 16) & 0xffff
}

/** The number that an IEEE half-precision bit pattern stands for. */
export function f16ToNumber(bits: number): number {
  if (typeof bits !== 'number') throw invalidArgType('bits', 'a number', bits)
  const magnitude = bits & 0x7fff
  const sign = bits & 0x8000 ? -1 : 1
  if (magnitude >= 0x7c00) return magnitude > 0x7c00 ? Number.NaN : sign * Number.POSITIVE_INFINITY
  // The bits of an f32 with the same mantissa; the product corrects its exponent and is exact, subnormals included.
  u32[0] = magnitude << 13
  return sign * f32[0]! * 2 ** 112
}

/** Rounds once to the nearest half, ties to even; overflow gives infinity, NaN stays NaN. Returns the bits. */
export function numberToF16(value: number): number {
  if (typeof value !== 'number') throw invalidArgType('value', 'a number', value)
  setRoundedToOdd(value)
  const bits = u32[0]!
  const sign = (bits >>> 16) & 0x8000
  const magnitude = bits & 0x7fffffff
  if (magnitude > 0x7f800000) return sign | 0x7e00
  if (magnitude >= 0x477ff000) return sign | 0x7c00
  if (magnitude < 0x38800000) {
    // Subnormal half: adding 0.5 in f32 aligns the mantissa so that the hardware rounds at the right bit.
    u32[0] = magnitude
    f32[0] = f32[0]! + 0.5
    return sign | (u32[0]! - 0x3f000000)
  }
  return sign | ((magnitude - 0x38000000 + 0xfff + ((magnitude >>> 13) & 1)) >>> 13)
}

/** Reads element `index` of an array that holds `dtype`. */
export function readElement(array: FloatArray, index: number, dtype: DType): number {
  const raw = array[index]!
  return dtype === 'f32' ? raw : dtype === 'bf16' ? bf16ToNumber(raw) : f16ToNumber(raw)
}

/** Rounds once to `dtype` and stores. */
export function writeElement(array: FloatArray, index: number, dtype: DType, value: number): void {
  array[index] = dtype === 'f32' ? value : dtype === 'bf16' ? numberToBf16(value) : numberToF16(value)
}

/** A new array of `length` zeros that holds `dtype`. */
export function allocateArray(dtype: DType, length: number): FloatArray {
  return dtype === 'f32' ? allocate(Float32Array, length) : allocate(Uint16Array, length)
}

function checkDType(dtype: unknown): void {
  if (!DTYPES.includes(dtype as DType)) throw invalidArgValue('dtype', "'f32', 'f16' or 'bf16'", dtype)
}

/** Widens to f32, exactly. Returns the input itself when it is f32 already. */
export function toFloat32(array: FloatArray, dtype: DType): Float32Array {
  checkDType(dtype)
  if (isFloat32Array(array)) return array
  if (!isUint16Array(array)) throw invalidArgType('array', 'a Float32Array or a Uint16Array', array)
  const out = allocate(Float32Array, array.length)
  if (dtype === 'bf16') {
    const bits = new Uint32Array(out.buffer)
    for (let i = 0; i < array.length; i++) bits[i] = array[i]! << 16
  } else {
    for (let i = 0; i < array.length; i++) out[i] = readElement(array, i, dtype)
  }
  return out
}

/** Rounds f32 values to `dtype`. Returns the input itself when `dtype` is f32. */
export function fromFloat32(values: Float32Array, dtype: DType): FloatArray {
  checkDType(dtype)
  if (!isFloat32Array(values)) throw invalidArgType('values', 'a Float32Array', values)
  if (dtype === 'f32') return values
  const out = allocate(Uint16Array, values.length)
  for (let i = 0; i < values.length; i++) writeElement(out, i, dtype, values[i]!)
  return out
}
