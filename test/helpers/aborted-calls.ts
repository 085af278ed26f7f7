/** Calls that are given up while they wait. */

import { expect } from 'vitest'
import type { MoeLayer } from '../../lib/index.js'

/** Each of the calls rejects with the reason of its abort or has the bits of `resident`, and so has the next. */
export async function expectAbortsToSettle(
  layer: MoeLayer,
  resident: MoeLayer,
  input: Float32Array,
  numCalls: number,
): Promise<void> {
  const reason = new Error('no longer')
  const outcomes = await Promise.allSettled(
    Array.from({ length: numCalls }, () => {
      const controller = new AbortController()
      const call = layer.forward(input, { signal: controller.signal })
      setImmediate(() => controller.abort(reason))
      return call
    }),
  )
  const { output } = await resident.forward(input)
  for (const outcome of outcomes) {
    if (outcome.status === 'rejected') expect(outcome.reason).toBe(reason)
    else expect(outcome.value.output).toEqual(output)
  }
  expect((await layer.forward(input)).output).toEqual(output)
}
