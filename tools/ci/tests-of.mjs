import { existsSync, readFileSync } from 'node:fs'
import path from 'node:path'

/** Counts of a step's tests from its report ('vitest' or 'log', see steps.mjs); undefined where none can be read. */
export function testsOf(name, report, directory) {
  const file = path.join(directory, report === 'vitest' ? `${name}.json` : `${name}.log`)
  if (report === 'none' || !existsSync(file)) return undefined
  const text = readFileSync(file, 'utf8')
  if (report === 'vitest') {
    const { numPassedTests, numFailedTests, numPendingTests, success } = JSON.parse(text)
    return {
      passed: numPassedTests,
      failed: Math.max(numFailedTests, success ? 0 : 1),
      skipped: numPendingTests,
    }
  }
  const last = [...text.matchAll(/(\d+) passed, (\d+) failed(?:, (\d+) skipped)?/g)].at(-1)
  return last && { passed: Number(last[1]), failed: Number(last[2]), skipped: Number(last[3] ?? 0) }
}
