/**
 * Adds up what .ci/run recorded and prints "N passed, N failed". A step that failed without a failing test, or that should have run
 * tests and shows none, counts as one failure: the sum is never better than the run was.
 */

import { existsSync, readFileSync } from 'node:fs'
import path from 'node:path'

const directory = process.argv[2] ?? 'build/reports'
const read = file => readFileSync(path.join(directory, file), 'utf8')

function testsOf(name, report) {
  if (report === 'vitest') {
    if (!existsSync(path.join(directory, `${name}.json`))) return undefined
    const { numPassedTests, numFailedTests, numPendingTests, success } = JSON.parse(read(`${name}.json`))
    return {
      passed: numPassedTests,
      failed: Math.max(numFailedTests, success ? 0 : 1),
      skipped: numPendingTests,
    }
  }
  const lines = [...read(`${name}.log`).matchAll(/(\d+) passed, (\d+) failed(?:, (\d+) skipped)?/g)]
  const last = lines.at(-1)
  return last && { passed: Number(last[1]), failed: Number(last[2]), skipped: Number(last[3] ?? 0) }
}

const total = { passed: 0, failed: 0, skipped: 0 }
const rows = read('steps.tsv').trimEnd().split('\n')
for (const row of rows) {
  const [name, report, status, seconds] = row.split('\t')
  const tests = { passed: 0, failed: 0, skipped: 0 }
  let remark = ''
  if (status === 'not-run') {
    tests.failed = 1
    remark = 'NOT RUN, the time was used up'
  } else if (report !== '-') {
    const found = testsOf(name, report)
    if (found) Object.assign(tests, found)
    if (tests.passed + tests.failed === 0) {
      tests.failed = 1
      remark = 'no test ran'
    }
  }
  if (status !== '0' && status !== 'not-run' && (tests.failed === 0 || remark)) {
    tests.failed = Math.max(tests.failed, 1)
    remark = status === '124' ? 'ended: it took too long' : `exit status ${status}`
  }
  for (const key of Object.keys(total)) total[key] += tests[key]
  const counts =
    report === '-' && tests.failed === 0 ? 'ok' : `${tests.passed} passed, ${tests.failed} failed`
  console.log(`${name.padEnd(16)} ${String(seconds).padStart(5)} s  ${counts}${remark && ` (${remark})`}`)
}

console.log(
  `\n${total.passed} passed, ${total.failed} failed${total.skipped ? `, ${total.skipped} skipped` : ''}`,
)
process.exit(total.failed === 0 && total.passed > 0 ? 0 : 1)
