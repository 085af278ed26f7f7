/**
 * Builds the native addon: `node tools/build/native.mjs [output directory] [--sanitize address] [--cuda AUTO|ON|OFF] [-j N]`.
 *
 * - output directory (or SE_OUTPUT): where sparse_experts.node goes; default build/Release, where the loader looks first
 * - `--sanitize address`: with AddressSanitizer and UndefinedBehaviorSanitizer, in build/address/Release. Load it with
 *   SPARSE_EXPERTS_NATIVE_PATH=<file> and the sanitizer's library in LD_PRELOAD
 * - `--cuda` (or SE_CUDA): whether the CUDA backend is built beside the addon; default AUTO, where nvcc and a GPU are here
 * - `-j N` (or JOBS): compilers at once; default all processors
 *
 * Incremental. The published package has it with native-tools.mjs and tree.mjs alone: cmake-js where it is installed, else cmake.
 */

import { createRequire } from 'node:module'
import os from 'node:os'
import path from 'node:path'
import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'
import { describeMissing, missingTools } from './native-tools.mjs'
import { build, configure, treeOf } from './tree.mjs'

/** Exit status when the tools of the build are not here; any other failure is 1. */
const MISSING_TOOLS_STATUS = 3

const root = path.resolve(path.dirname(fileURLToPath(import.meta.url)), '../..')

function fail(message) {
  console.error(`build:native: ${message}`)
  process.exit(1)
}

/** cmake-js's script where it is a dependency of this package, else undefined. */
function findCmakeJs() {
  try {
    return createRequire(path.join(root, 'package.json')).resolve('cmake-js/bin/cmake-js')
  } catch {
    return undefined
  }
}

/** cmake-js names Node's headers to CMake, and a library to link on Windows. */
function findDriver(tree) {
  const script = findCmakeJs()
  return script
    ? [process.execPath, script, 'configure', '--log-level', 'error', '--out', treeOf(tree), '--']
    : ['cmake']
}

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: { sanitize: { type: 'string' }, cuda: { type: 'string' }, jobs: { type: 'string', short: 'j' } },
})
const preset = values.sanitize ?? 'addon'
const jobs = Number(values.jobs ?? process.env.JOBS ?? os.availableParallelism())
if (positionals.length > 1) fail(`expected one output directory, received ${positionals.join(' ')}`)
if (!['addon', 'address'].includes(preset)) fail(`--sanitize takes address, received '${preset}'`)
// A sanitized addon is for the CPU's and the emulator's suites.
const cuda = preset === 'addon' ? (values.cuda ?? process.env.SE_CUDA ?? 'AUTO') : 'OFF'
if (!['AUTO', 'ON', 'OFF'].includes(cuda)) fail(`--cuda takes AUTO, ON or OFF, received '${cuda}'`)
if (!Number.isInteger(jobs) || jobs < 1) fail('-j takes a whole number above 0')

const missing = missingTools()
if (missing.length > 0) {
  console.error(`build:native: ${describeMissing(missing)}`)
  process.exit(MISSING_TOOLS_STATUS)
}

const release = preset === 'addon' ? path.join(root, 'build/Release') : path.join(treeOf(preset), 'Release')
const output = path.resolve(root, positionals[0] ?? process.env.SE_OUTPUT ?? release)
const definitions = { SE_ADDON_DIRECTORY: output.replaceAll('\\', '/'), SE_CUDA: cuda, CMAKE_CXX_FLAGS: '' }
const driver = preset === 'addon' ? findDriver(preset) : undefined
if (!configure(preset, { definitions, driver })) fail('CMake could not configure; its messages are above')
if (!build(preset, ['sparse_experts'], jobs)) fail("it does not compile; the compiler's messages are above")
console.log(`build:native: ${path.relative(root, path.join(output, 'sparse_experts.node'))}`)
