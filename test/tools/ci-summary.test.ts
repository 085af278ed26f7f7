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
    ['lint', 'none', '0', '1'],
    ['test', 'vitest', '0', '2', 'always'],
    ['native', 'log', '0', '3', 'shard 2 of 4, changed'],
  ]
  const { status, lines } = summarise(rows, {
    'test.json': vitest(5, 0),
    'native.log': '3 passed, 0 failed\n',
  })
  expect(lines[1]).toMatch(/^lint +1 +ok$/)
  expect(lines[2]).toMatch(/^test +2 +5 passed, 0 failed +\[always\]$/)
  expect(lines[3]).toMatch(/^native +3 +3 passed, 0 failed +\[shard 2 of 4, changed\]$/)
  expect(lines).toContain('1 skipped, by other shards or for want of a device')
  expect(lines.at(-1)).toBe('8 passed, 0 failed')
  expect(status).toBe(0)
})

it('tells steps apart that were not run', () => {
  const green = JSON.stringify({ revision: 'eff6d67', date: '2026-11-29T12:00:00.000Z', passed: 40 })
  const rows = [
    ['native', 'log', '0', '3'],
    ['cuda', 'vitest', 'green', '0', green],
    ['kernels', 'none', 'missing', '0', 'nvcc'],
    ['race', 'log', 'turn', '0', 'address'],
    ['avx512', 'log', 'not-needed', '0', 'avx512bw'],
  ]
  const { status, lines } = summarise(rows, { 'native.log': '3 passed, 0 failed\n' })
  expect(lines[2]).toMatch(/^cuda +0 +green for these inputs at eff6d67 \(2026-11-29\)$/)
  expect(lines[3]).toMatch(/^kernels +0 +not run: this machine has no nvcc$/)
  expect(lines[4]).toMatch(/^race +0 +not this time: the turn of address$/)
  expect(lines[5]).toMatch(/^avx512 +0 +not needed: this processor has avx512bw$/)
  expect(lines).toContain('not run again, green for the same inputs: 1 steps, 40 tests at the time')
  expect(lines.at(-1)).toBe('3 passed, 0 failed')
  expect(status).toBe(0)
})

it.each([
  ['a step that the time did not reach', ['late', 'vitest', 'not-run', '0'], /NOT RUN/],
  ['a step without tests that the time did not reach', ['late', 'none', 'not-run', '0'], /NOT RUN/],
  ['a step that was ended', ['late', 'none', '124', '9'], /took too long/],
  ['a step that ran no test', ['late', 'log', '0', '1'], /no test ran/],
  ['a step that failed without a failing test', ['late', 'none', '3', '1'], /exit status 3/],
  ['a step that failed after its tests had passed', ['native', 'log', '3', '1'], /exit status 3/],
])('%s is a failure', (_, row, remark) => {
  const rows = [['test', 'vitest', '0', '3'], row]
  const files = { 'test.json': vitest(3, 0), 'late.log': 'nothing\n', 'native.log': '4 passed, 0 failed\n' }
  const { status, lines } = summarise(rows, files)
  expect(lines.at(-1)).toBe(`${row[0] === 'native' ? 7 : 3} passed, 1 failed`)
  expect(lines[2]).toMatch(remark)
  expect(status).toBe(1)
})
