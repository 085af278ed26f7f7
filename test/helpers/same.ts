/** Equality of long arrays: the assertions of vitest look at each element by itself, which takes longer than to compute it. */

import { expect } from 'vitest'

type Numbers = Float32Array | Int32Array | Uint16Array

const bytesOf = ({ buffer, byteOffset, byteLength }: Numbers) => Buffer.from(buffer, byteOffset, byteLength)

/** Expects the same bits, and names the first element that has others. */
export function expectSame(actual: Numbers, expected: Numbers, label?: string): void {
  if (actual.constructor === expected.constructor && bytesOf(actual).equals(bytesOf(expected))) return
  expect(actual, label).toEqual(expected)
  expect.fail(`${label ?? 'array'}: the same numbers in other bits`)
}
