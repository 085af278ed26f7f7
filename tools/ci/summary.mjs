/**
 * `node tools/ci/summary.mjs [directory]`: the table of what .ci/run recorded (step, seconds, what came out and why it ran or did not), and as
 * the last line "N passed, N failed".
 *
 * A step that failed without a failing test, or that should have run tests and shows none, counts as one failure: the sum is never better than
 * the run was. What was not run again because it is green for the same inputs is told apart, and not among the passed.
 */

import { readFileSync } from 'node:fs'
import path from 'node:path'
import { testsOf } from './tests-of.mjs'

const directory = process.argv[2] ?? 'build/reports'
const total = { passed: 0, failed: 0, skipped: 0 }
const green = { steps: 0, passed: 0 }

/** What a row of the table says, and what it adds to the total. */
function judge(name, report, status, remark) {
  if (status === 'green') {
    const { revision, date, passed } = JSON.parse(remark)
    green.steps++
    green.passed += passed
    return { text: `green for these inputs at ${revision} (${date.slice(0, 10)})` }
  }
  if (status === 'turn') return { text: `not this time: the turn of ${remark}` }
  if (status === 'missing') return { text: `not run: this machine has no ${remark}` }
  if (status === 'not-needed') return { text: `not needed: this processor has ${remark}` }
  if (status === 'not-run') return { text: 'NOT RUN: the time was used up', failed: 1 }
  const found = testsOf(name, report, directory) ?? { passed: 0, failed: 0, skipped: 0 }
  const said = report === 'none' ? 'ok' : `${found.passed} passed, ${found.failed} failed`
  if (report !== 'none' && found.passed + found.failed === 0) {
    return { text: `FAILED: no test ran${status === '0' ? '' : ` (exit status ${status})`}`, failed: 1 }
  }
  if (status === '0' || found.failed > 0) return { ...found, text: said }
  const why = status === '124' ? 'ended, it took too long' : `exit status ${status}`
  return { ...found, failed: 1, text: report === 'none' ? `FAILED: ${why}` : `${said} (${why})` }
}

const rows = readFileSync(path.join(directory, 'steps.tsv'), 'utf8').trimEnd().split('\n')
console.log(`${'step'.padEnd(16)} seconds  outcome`)
for (const row of rows) {
  const [name, report, status, seconds, remark = ''] = row.split('\t')
  const { text, ...counts } = judge(name, report, status, remark)
  for (const key of Object.keys(total)) total[key] += counts[key] ?? 0
  const reason =
    ['green', 'turn', 'missing', 'not-needed'].includes(status) || remark === '' ? '' : `  [${remark}]`
  console.log(`${name.padEnd(16)} ${String(seconds).padStart(7)}  ${text}${reason}`)
}

if (green.steps > 0) {
  console.log(
    `\nnot run again, green for the same inputs: ${green.steps} steps, ${green.passed} tests at the time`,
  )
}
if (total.skipped > 0) console.log(`\n${total.skipped} skipped, by other shards or for want of a device`)
console.log(`\n${total.passed} passed, ${total.failed} failed`)
process.exit(total.failed === 0 && total.passed > 0 ? 0 : 1)
