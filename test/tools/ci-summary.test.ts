/** The sum that ends CI is never better than the run was. */

import { spawnSync } from 'node:child_process'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import os from 'node:os'
import path from 'node:path'
import { afterAll, expect, it } from 'vitest'

const root = path.join(import.meta.dirname, '../..')
const directory = mkdtempSync(path.join(os.tmpdir(), 'ci-summary-'))
afterAll(() => rmSync(directory, { recursive: true, force: true }))

/** Rows of name, kind of report, exit status, seconds. */
function summarise(rows: string[][], files: Record<string, string>) {
  writeFileSync(path.join(directory, 'steps.tsv'), rows.map(row => `${row.join('\t')}\n`).join(''))
  for (const [name, text] of Object.entries(files)) writeFileSync(path.join(directory, name), text)
  const script = path.join(root, 'tools/ci/summary.mjs')
  const { status, stdout } = spawnSync(process.execPath, [script, directory], { encoding: 'utf8' })
  return { status, lines: stdout.trim().split('\n') }
}

const vitest = (passed: number, failed: number) =>
  JSON.stringify({
    numPassedTests: passed,
    numFailedTests: failed,
    numPendingTests: 1,
    success: failed === 0,
  })

it('adds up steps that went well', () => {
  const rows = [
    ['lint', '-', '0', '1'],
    ['test', 'vitest', '0', '2'],
    ['native', 'log', '0', '3'],
  ]
  const { status, lines } = summarise(rows, {
    'test.json': vitest(5, 0),
    'native.log': '3 passed, 0 failed\n',
  })
  expect(lines.at(-1)).toBe('8 passed, 0 failed, 1 skipped')
  expect(status).toBe(0)
})

it.each([
  ['a step that the time did not reach', ['late', 'vitest', 'not-run', '0'], /NOT RUN/],
  ['a step without tests that the time did not reach', ['late', '-', 'not-run', '0'], /NOT RUN/],
  ['a step that was ended', ['late', 'vitest', '124', '9'], /took too long/],
  ['a step that ran no test', ['late', 'log', '0', '1'], /no test ran/],
  ['a step that failed without a failing test', ['late', '-', '3', '1'], /exit status 3/],
])('%s is a failure', (_, row, remark) => {
  const rows = [['native', 'log', '0', '3'], row]
  const { status, lines } = summarise(rows, { 'native.log': '3 passed, 0 failed\n', 'late.log': 'nothing\n' })
  expect(lines.at(-1)).toBe('3 passed, 1 failed')
  expect(lines[1]).toMatch(remark)
  expect(status).toBe(1)
})
