/** Equality of long arrays: the assertions of vitest look at each element by itself, which takes longer than to compute it. */

import { expect } from 'vitest'

type Numbers = Float32Array | Int32Array | Uint16Array

const bytesOf = ({ buffer, byteOffset, byteLength }: ArrayBufferView) =>
  Buffer.from(buffer as ArrayBuffer, byteOffset, byteLength)

/** Whether two arrays are of one type and have the same bytes. */
export const haveSameBytes = (actual: ArrayBufferView, expected: ArrayBufferView): boolean =>
  Object.getPrototypeOf(actual) === Object.getPrototypeOf(expected) &&
  bytesOf(actual).equals(bytesOf(expected))

/** Expects the same bits, and names the first element that has others. */
export function expectSame(actual: Numbers, expected: Numbers, label?: string): void {
  if (haveSameBytes(actual, expected)) return
  expect(actual, label).toEqual(expected)
  expect.fail(`${label ?? 'array'}: the same numbers in other bits`)
}
