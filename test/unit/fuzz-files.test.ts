/** A few damaged checkpoints of each kind; `npm run test:hostile` runs many (test/hostile). */

import fc from 'fast-check'
import { afterAll, describe, expect, it } from 'vitest'
import { setLogger } from '../../lib/index.js'
import { DamagedCheckpoints, fileCases, TARGETS } from '../hostile/file-targets.js'

describe('a checkpoint with a damaged file', () => {
  const checkpoints = new DamagedCheckpoints()
  afterAll(() => checkpoints.remove())
  setLogger(null)

  it.each(TARGETS)('%s: is loaded, or refused with a code', async target => {
    const outcomes = new Set<string>()
    await fc.assert(
      fc.asyncProperty(fileCases(target), async damage => {
        outcomes.add(await checkpoints.outcome(damage))
      }),
      { numRuns: 25, seed: 1 },
    )
    // Of a damage that is always noticed at the door, the rest of the code would see nothing.
    expect(outcomes.size).toBeGreaterThan(1)
  })
})
