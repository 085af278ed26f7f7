/**
 * Builds the native addon: `node tools/build/native.mjs [output directory] [--sanitize LIST] [--cuda AUTO|ON|OFF] [-j N]`.
 *
 * - output directory (or SE_OUTPUT): where sparse_experts.node goes; default build/Release, where the loader looks first
 * - `--sanitize address,undefined` (or SE_SANITIZE): a build of its own below build/, e.g. build/address-undefined/Release. Load it with
 *   SPARSE_EXPERTS_NATIVE_PATH=<file> and the sanitizer's library in LD_PRELOAD
 * - `--cuda` (or SE_CUDA): whether the CUDA backend is built beside the addon; default AUTO, where nvcc and a GPU are here
 * - `-j N` (or JOBS): compilers at once; default all processors
 *
 * Incremental. The published package has it with native-tools.mjs alone: cmake-js where it is installed, else cmake.
 */

import { spawnSync } from 'node:child_process'
import { existsSync, readFileSync, rmSync } from 'node:fs'
import { createRequire } from 'node:module'
import os from 'node:os'
import path from 'node:path'
import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'
import { describeMissing, missingTools } from './native-tools.mjs'

/** Exit status when the tools of the build are not here; any other failure is 1. */
const MISSING_TOOLS_STATUS = 3

const root = path.resolve(path.dirname(fileURLToPath(import.meta.url)), '../..')

function fail(message) {
  console.error(`build:native: ${message}`)
  process.exit(1)
}

function works(command) {
  return spawnSync(command, ['--version'], { stdio: 'ignore' }).status === 0
}

function run(command, args) {
  const { status, error } = spawnSync(command, args, { cwd: root, stdio: 'inherit' })
  if (error) fail(`cannot run ${command}: ${error.message}`)
  if (status !== 0) fail(`${path.basename(command)} ${args[0]} failed; the messages are above`)
}

/** Values of a configured tree; empty where there is none. */
function readCache(tree) {
  const file = path.join(tree, 'CMakeCache.txt')
  if (!existsSync(file)) return {}
  const lines = readFileSync(file, 'utf8').matchAll(/^(\w+):\w+=(.*)$/gm)
  return Object.fromEntries([...lines].map(([, name, value]) => [name, value]))
}

/** cmake-js's script where it is a dependency of this package, else undefined. */
function findCmakeJs() {
  try {
    return createRequire(path.join(root, 'package.json')).resolve('cmake-js/bin/cmake-js')
  } catch {
    return undefined
  }
}

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: { sanitize: { type: 'string' }, cuda: { type: 'string' }, jobs: { type: 'string', short: 'j' } },
})
const sanitize = values.sanitize ?? process.env.SE_SANITIZE ?? ''
// A sanitized addon is for the CPU's and the emulator's suites.
const cuda = sanitize ? 'OFF' : (values.cuda ?? process.env.SE_CUDA ?? 'AUTO')
const jobs = Number(values.jobs ?? process.env.JOBS ?? os.availableParallelism())
if (positionals.length > 1) fail(`expected one output directory, received ${positionals.join(' ')}`)
if (!/^([a-z]+(,[a-z]+)*)?$/.test(sanitize))
  fail(`--sanitize takes a list like address,undefined, received '${sanitize}'`)
if (!['AUTO', 'ON', 'OFF'].includes(cuda)) fail(`--cuda takes AUTO, ON or OFF, received '${cuda}'`)
if (!Number.isInteger(jobs) || jobs < 1) fail('-j takes a whole number above 0')

const place = sanitize ? path.join(root, 'build', sanitize.replaceAll(',', '-')) : path.join(root, 'build')
const output = path.resolve(root, positionals[0] ?? process.env.SE_OUTPUT ?? path.join(place, 'Release'))
const tree = path.join(place, 'cmake')
const definitions = {
  SE_ADDON_DIRECTORY: output.replaceAll('\\', '/'),
  SE_SANITIZE: sanitize,
  SE_CUDA: cuda,
  // Sanitized code keeps its optimisation, so that the same kernels run.
  CMAKE_BUILD_TYPE: sanitize ? 'RelWithDebInfo' : 'Release',
}

const missing = missingTools()
if (missing.length > 0) {
  console.error(`build:native: ${describeMissing(missing)}`)
  process.exit(MISSING_TOOLS_STATUS)
}
const cmakeJs = findCmakeJs()
let cache = readCache(tree)
// A tree of a checkout that has moved, or whose node_modules have, cannot be mended.
const isForeign = cache.CMAKE_HOME_DIRECTORY && path.resolve(cache.CMAKE_HOME_DIRECTORY) !== root
const lostHeaders = cache.CMAKE_JS_INC?.split(';').some(directory => directory && !existsSync(directory))
if (isForeign || lostHeaders) {
  rmSync(tree, { recursive: true })
  cache = {}
}
// A configured tree keeps its values: whatever differs must be configured anew, cmake-js would ignore it.
if (Object.entries(definitions).some(([name, value]) => cache[name] !== value)) {
  if (cmakeJs && !cache.CMAKE_GENERATOR) {
    const flags = Object.entries(definitions).map(([name, value]) => `--CD${name}=${value}`)
    run(process.execPath, [cmakeJs, 'configure', '--out', tree, ...flags])
  } else {
    const flags = Object.entries(definitions).map(([name, value]) => `-D${name}=${value}`)
    if (!cache.CMAKE_GENERATOR && works('ninja')) flags.push('-G', 'Ninja')
    run('cmake', ['-S', root, '-B', tree, ...flags])
  }
}
run('cmake', [
  '--build',
  tree,
  '--config',
  definitions.CMAKE_BUILD_TYPE,
  '--parallel',
  String(jobs),
  '--target',
  'sparse_experts',
])
console.log(`build:native: ${path.relative(root, path.join(output, 'sparse_experts.node'))}`)
