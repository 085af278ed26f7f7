/** The one way numbers are compared in the tests. */

import { expect } from 'vitest'

/**
 * `‖out − ref‖ / ‖ref‖`. Infinity where one of them is not finite and the other is anything else, or where only the reference is
 * zero. Throws when the lengths differ.
 */
export function relativeError(out: ArrayLike<number>, ref: ArrayLike<number>): number {
  if (out.length !== ref.length) throw new Error(`lengths differ: ${out.length} and ${ref.length}`)
  let difference = 0
  let norm = 0
  for (let i = 0; i < ref.length; i++) {
    const [a, b] = [out[i]!, ref[i]!]
    if (Number.isFinite(a) && Number.isFinite(b)) {
      difference += (a - b) ** 2
      norm += b * b
    } else if (!Object.is(a, b)) return Number.POSITIVE_INFINITY
  }
  if (difference === 0) return 0
  return norm === 0 ? Number.POSITIVE_INFINITY : Math.sqrt(difference / norm)
}

/** Expects a relative error of at most `bound`. */
export function expectClose(
  out: ArrayLike<number>,
  ref: ArrayLike<number>,
  bound: number,
  label = 'relative error',
): void {
  expect(relativeError(out, ref), label).toBeLessThanOrEqual(bound)
}
