/**
 * Before every test file: `toEqual` and its like compare typed arrays by their bytes first. Vitest looks at each element by itself, which
 * takes longer than most of what the tests compute. Arrays with other bytes go vitest's way, which says where they differ.
 */

import { expect } from 'vitest'
import { haveSameBytes } from './same.js'

const MARK = Symbol.for('sparse-experts.equal-arrays')

// Files that share a process share its testers.
const shared = globalThis as { [MARK]?: boolean }
if (!shared[MARK]) {
  shared[MARK] = true
  expect.addEqualityTesters([
    (actual: unknown, expected: unknown) =>
      ArrayBuffer.isView(actual) && ArrayBuffer.isView(expected) && haveSameBytes(actual, expected)
        ? true
        : undefined,
  ])
}
