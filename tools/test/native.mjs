/**
 * Builds and runs the native units without Node: `node tools/test/native.mjs [--sanitize address|thread] [--target linux-arm64|avx512]
 * [--shard I/N]`.
 * `--target linux-arm64` compiles for arm64 with Debian's cross compiler (g++-12-aarch64-linux-gnu) and runs under qemu-user.
 * `--target avx512` runs the AVX-512 kernels on any processor with AVX2, their instructions in C++ (test/native/avx512_in_c.h).
 * Ends with "N passed, N failed".
 */

import { spawnSync } from 'node:child_process'
import path from 'node:path'
import { parseArgs } from 'node:util'
import { buildPreset } from '../build/tree.mjs'
import { root } from '../repository.mjs'
import { printReports, sanitizerEnvironment } from './sanitizers.mjs'

const text = { type: 'string' }
const { values } = parseArgs({ options: { sanitize: text, target: text, shard: text } })
const { sanitize, target, shard } = values
function expectOneOf(option, value, allowed) {
  if (value === undefined || allowed.includes(value)) return
  console.error(`test:native: --${option} takes ${allowed.join(' or ')}, received '${value}'`)
  process.exit(2)
}
expectOneOf('sanitize', sanitize, ['address', 'thread'])
expectOneOf('target', target, sanitize ? [] : ['linux-arm64', 'avx512'])

const tree = buildPreset(sanitize ?? target ?? 'native', ['native_tests'])
const reports = path.join(tree, 'reports')
const env = sanitize ? sanitizerEnvironment(reports) : {}
// Without Node in the process every leak is ours.
if (sanitize === 'address') env.LSAN_OPTIONS = 'exitcode=99'
// Threads are the same under every instruction set, and ThreadSanitizer and emulation are slow: one set will do.
const SETS = {
  thread: ['scalar'],
  'linux-arm64': ['neon', 'neondotprod', 'neoni8mm'],
  avx512: ['avx512', 'avx512vnni', 'avx512bf16'],
}
const sets = SETS[sanitize ?? target] ?? []
// Products of panels, tables of formats and what a processor has: all on one thread.
const ON_ONE_THREAD = [
  'coded_panels',
  'guard_pages',
  'guard_rows',
  'machine',
  'matrix_format',
  'panels',
  'quant_panels',
]
const without = sanitize === 'thread' ? [`--dt-test-suite-exclude=${ON_ONE_THREAD.join(',')}`] : []
const program = path.join(tree, 'native_tests')
const command =
  target === 'linux-arm64' ? ['qemu-aarch64', '-L', '/usr/aarch64-linux-gnu', program] : [program]
const { status, signal, stdout } = spawnSync(
  command[0],
  [
    ...[...command.slice(1), ...sets.flatMap(set => ['--isa', set]), ...without],
    ...(shard ? ['--shard', shard] : []),
  ],
  {
    cwd: root,
    env: { ...process.env, ...env },
    encoding: 'utf8',
    stdio: ['ignore', 'pipe', 'inherit'],
    maxBuffer: 1 << 28,
  },
)
process.stdout.write(stdout ?? '')
const found = sanitize ? printReports(reports) : 0

const [, passed = '0', failed = '0'] =
  [...(stdout ?? '').matchAll(/(\d+) passed, (\d+) failed/g)].at(-1) ?? []
const crashed = status !== 0 && failed === '0' ? 1 : 0
if (crashed) console.error(`native_tests ended with ${signal ?? `status ${status}`}`)
const failures = Number(failed) + crashed + (crashed ? 0 : found)
console.log(`${passed} passed, ${failures} failed`)
process.exit(failures === 0 && Number(passed) > 0 ? 0 : 1)
