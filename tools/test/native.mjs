/**
 * Builds and runs the native units without Node: `node tools/test/native.mjs [--sanitize address|thread] [--target aarch64|avx512]`.
 * `--target aarch64` compiles for arm64 with Debian's cross compiler (g++-12-aarch64-linux-gnu) and runs under qemu-user.
 * `--target avx512` runs the AVX-512 kernels on any processor with AVX2, their instructions in C++ (test/native/avx512_in_c.h).
 * Ends with "N passed, N failed".
 */

import { spawnSync } from 'node:child_process'
import path from 'node:path'
import { parseArgs } from 'node:util'
import { buildSide, printReports, SANITIZERS, sanitizerEnvironment } from '../build/side-tree.mjs'
import { root } from '../repository.mjs'

const { values } = parseArgs({ options: { sanitize: { type: 'string' }, target: { type: 'string' } } })
const kind = values.sanitize
if (kind !== undefined && !(kind in SANITIZERS)) {
  console.error(`--sanitize takes ${Object.keys(SANITIZERS).join(' or ')}`)
  process.exit(2)
}

if (values.target !== undefined && (!['aarch64', 'avx512'].includes(values.target) || kind)) {
  console.error('--target takes aarch64 or avx512, without a sanitizer')
  process.exit(2)
}
const inC = values.target === 'avx512'
const cross = values.target === 'aarch64' && {
  CMAKE_SYSTEM_NAME: 'Linux',
  CMAKE_SYSTEM_PROCESSOR: 'aarch64',
  CMAKE_CXX_COMPILER: 'aarch64-linux-gnu-g++-12',
}

// The tree that `build:native -- --sanitize` uses as well: what both need is compiled once.
const name = kind ? `${SANITIZERS[kind].replaceAll(',', '-')}/cmake` : (values.target ?? 'native')
const tree = buildSide(
  name,
  // Sanitized code keeps its optimisation, so that the same kernels run.
  {
    CMAKE_BUILD_TYPE: kind ? 'RelWithDebInfo' : 'Release',
    SE_SANITIZE: kind ? SANITIZERS[kind] : '',
    SE_AVX512_IN_C: inC ? 'ON' : 'OFF',
    ...cross,
  },
  ['native_tests'],
)
const reports = path.join(tree, 'reports')
const env = kind ? sanitizerEnvironment(reports) : {}
// Without Node in the process every leak is ours.
if (kind === 'address') env.LSAN_OPTIONS = 'exitcode=99'
// Threads are the same under every instruction set, and ThreadSanitizer and emulation are slow: one set will do.
const sets = kind === 'thread' ? ['scalar'] : cross ? ['neon'] : inC ? ['avx512', 'avx512bf16'] : []
const program = path.join(tree, 'native_tests')
const command = cross ? ['qemu-aarch64', '-L', '/usr/aarch64-linux-gnu', program] : [program]
const { status, signal, stdout } = spawnSync(
  command[0],
  [...command.slice(1), ...sets.flatMap(set => ['--isa', set])],
  {
    cwd: root,
    env: { ...process.env, ...env },
    encoding: 'utf8',
    stdio: ['ignore', 'pipe', 'inherit'],
    maxBuffer: 1 << 28,
  },
)
process.stdout.write(stdout ?? '')
const found = kind ? printReports(reports) : 0

const [, passed = '0', failed = '0'] =
  [...(stdout ?? '').matchAll(/(\d+) passed, (\d+) failed/g)].at(-1) ?? []
const crashed = status !== 0 && failed === '0' ? 1 : 0
if (crashed) console.error(`native_tests ended with ${signal ?? `status ${status}`}`)
const failures = Number(failed) + crashed + (crashed ? 0 : found)
console.log(`${passed} passed, ${failures} failed`)
process.exit(failures === 0 && Number(passed) > 0 ? 0 : 1)
