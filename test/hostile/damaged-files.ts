/** Damaged checkpoints, many: `node damaged-files.js <config | index | header | gguf> <cases> <seed>`. Prints how they ended. */

import fc from 'fast-check'
import { setLogger } from 'sparse-experts'
import { DamagedCheckpoints, fileCases, type Target } from './file-targets.js'
import { watchCases } from './watch-cases.js'

const [target = 'config', numCases = '1000', seed = '1'] = process.argv.slice(2)
setLogger(null)
/** A case takes some hundredths of a second, and a file is some kilobytes. */
const begin = watchCases({ seconds: 30, mebibytes: 512 })
const checkpoints = new DamagedCheckpoints()
const outcomes: Record<string, number> = {}
try {
  await fc.assert(
    fc.asyncProperty(fileCases(target as Target), async damage => {
      begin(damage)
      const outcome = await checkpoints.outcome(damage)
      outcomes[outcome] = (outcomes[outcome] ?? 0) + 1
    }),
    { numRuns: Number(numCases), seed: Number(seed) },
  )
} finally {
  checkpoints.remove()
}
console.log(JSON.stringify(outcomes))
