/** Checks of what a caller gives the oracle's functions, before anything is read in a loop or allocated. */

import { invalidArgShape, invalidArgType, invalidArgValue } from '../block/errors.js'
import { fieldsOf } from '../block/option-fields.js'
import { MAX_SIZE } from '../block/resolve-routing.js'
import { isFloat32Array, isFloat64Array, isUint16Array, typedArrayKind } from '../block/typed-arrays.js'
import type { Numbers } from './matrix.js'

/** An array of numbers: a `Float64Array`, a `Float32Array`, or a plain array of numbers. */
export function checkNumbers(name: string, value: unknown): Numbers {
  if (isFloat64Array(value) || isFloat32Array(value)) return value
  return plainNumbers(name, value, 'a Float64Array, a Float32Array or an array of numbers')
}

/** {@link checkNumbers}, or the bits of a 16-bit dtype. */
export function checkValues(name: string, value: unknown): Numbers | Uint16Array {
  return isUint16Array(value) ? value : checkNumbers(name, value)
}

/** Whole numbers in any typed array but those of BigInts, or in a plain array. */
export function checkIntegers(name: string, value: unknown): ArrayLike<number> {
  const kind = typedArrayKind(value)
  if (kind && !kind.startsWith('Big')) return value as Int32Array
  return plainNumbers(name, value, 'an Int32Array or an array of integers')
}

function plainNumbers(name: string, value: unknown, expected: string): readonly number[] {
  if (!Array.isArray(value)) throw invalidArgType(name, expected, value)
  if (value.length > MAX_PLAIN) {
    throw invalidArgShape(name, `at most ${MAX_PLAIN} elements in a plain array`, `${value.length}`)
  }
  for (let i = 0; i < value.length; i++)
    if (typeof value[i] !== 'number') throw invalidArgType(`${name}[${i}]`, 'a number', value[i])
  return value
}

/** Longest plain array: holes cost nothing, so that its length alone says nothing of what a caller holds. */
const MAX_PLAIN = 2 ** 27

/** The `sizes` of a call: each a whole number from 1 on. An object may have other keys, which say nothing here. */
export function checkSizes(value: unknown, keys: readonly string[]): number[] {
  const fields = fieldsOf(value, 'sizes')
  return keys.map(key => fields.integer(key, 1, MAX_SIZE))
}

/** A whole number from `least` to `most`. */
export function checkInteger(name: string, value: unknown, least: number, most: number): number {
  if (typeof value !== 'number') throw invalidArgType(name, 'a number', value)
  if (!Number.isInteger(value) || value < least || value > most)
    throw invalidArgValue(name, `an integer from ${least} to ${most}`, value)
  return value
}
