/**
 * Builds and runs the engine's C++ tests: `node tools/test/engine.mjs [--sanitize address|thread] [FILTER …]`. A FILTER is a part of a test
 * case's name. Ends with "N passed, N failed".
 */

import { spawnSync } from 'node:child_process'
import path from 'node:path'
import { parseArgs } from 'node:util'
import { buildPreset } from '../build/tree.mjs'
import { root } from '../repository.mjs'
import { printReports, sanitizerEnvironment } from './sanitizers.mjs'

const { values, positionals } = parseArgs({
  options: { sanitize: { type: 'string' } },
  allowPositionals: true,
})
const { sanitize } = values
if (sanitize !== undefined && !['address', 'thread'].includes(sanitize)) {
  console.error(`test:engine: --sanitize takes address or thread, received '${sanitize}'`)
  process.exit(2)
}

const tree = buildPreset(sanitize ?? 'native', ['engine_tests'])
const reports = path.join(tree, 'reports-engine')
const env = sanitize ? sanitizerEnvironment(reports) : {}
// Without Node in the process every leak is ours.
if (sanitize === 'address') env.LSAN_OPTIONS = 'exitcode=99'
const filters = positionals.map(filter => `--dt-test-case=*${filter}*`)
const { status, signal, stdout } = spawnSync(path.join(tree, 'engine_tests'), filters, {
  cwd: root,
  env: { ...process.env, ...env },
  encoding: 'utf8',
  stdio: ['ignore', 'pipe', 'inherit'],
})
process.stdout.write(stdout ?? '')
const found = sanitize ? printReports(reports) : 0

const [, passed = '0', failed = '0'] =
  [...(stdout ?? '').matchAll(/^(\d+) passed, (\d+) failed$/gm)].at(-1) ?? []
const crashed = status !== 0 && failed === '0' ? 1 : 0
if (crashed) console.error(`engine_tests ended with ${signal ?? `status ${status}`}`)
const failures = Number(failed) + crashed + (crashed ? 0 : found)
console.log(`${passed} passed, ${failures} failed`)
process.exit(failures === 0 && Number(passed) > 0 ? 0 : 1)
