/** What `prepare.mjs` and `setup.mjs` share: is everything here, is anything stale, and how to build it. */

import { spawnSync } from 'node:child_process'
import { existsSync, readdirSync, readFileSync, rmSync, statSync, utimesSync } from 'node:fs'
import path from 'node:path'
import { root } from '../repository.mjs'
import { describeMissing } from './native-tools.mjs'
import { connectPrograms, PROGRAMS } from './programs.mjs'

const NATIVE_INPUTS = [
  'CMakeLists.txt',
  'CMakePresets.json',
  'cmake',
  'csrc',
  'tools/build/native.mjs',
  'tools/build/native-tools.mjs',
  'tools/build/tree.mjs',
  'package.json',
]
const TYPESCRIPT_INPUTS = ['lib', 'tsconfig.json', 'tsconfig.build.json']

export { missingTools } from './native-tools.mjs'

/** One paragraph for a person whose machine cannot build the addon. */
export function missingToolsText(missing) {
  return (
    `sparse-experts: the native addon was not built, because ${describeMissing(missing)} ` +
    `Everything runs meanwhile on the 'reference' device, which is exact but slow. Then run 'npm run build:native'.`
  )
}

function newestMtime(entry) {
  const stat = statSync(entry, { throwIfNoEntry: false })
  if (!stat) return 0
  let newest = stat.mtimeMs
  if (stat.isDirectory()) {
    for (const name of readdirSync(entry)) newest = Math.max(newest, newestMtime(path.join(entry, name)))
  }
  return newest
}

/** The output is missing, or an input (file or folder, from the root) is newer. */
export function isOlderThan(output, inputs) {
  const stat = statSync(output, { throwIfNoEntry: false })
  return !stat || inputs.some(input => newestMtime(path.join(root, input)) > stat.mtimeMs)
}

/** Where builds leave the addon, and where one lies that is to be packed. The loader looks into both. */
const RELEASE = path.join(root, 'build/Release')
export const PACKED = path.join(root, 'prebuilds', `${process.platform}-${process.arch}`)

/** The addon that a source build has left in a directory, or undefined. */
function builtAddon(directory) {
  const file = path.join(directory, 'sparse_experts.node')
  return existsSync(file) ? file : undefined
}

export function isNativeStale(directory = RELEASE) {
  const addon = builtAddon(directory)
  return !addon || isOlderThan(addon, NATIVE_INPUTS)
}

export function isTypeScriptStale() {
  return isOlderThan(path.join(root, 'dist/index.js'), TYPESCRIPT_INPUTS)
}

/** node_modules lacks something that the lockfile names, or has it in another version. */
export function areDependenciesStale() {
  const installedFile = path.join(root, 'node_modules/.package-lock.json')
  if (!existsSync(installedFile)) return true
  const lockFile = path.join(root, 'package-lock.json')
  if (!existsSync(lockFile) || statSync(installedFile).mtimeMs >= statSync(lockFile).mtimeMs) return false
  // A checkout touches the lockfile without changing it: the contents decide.
  const locked = JSON.parse(readFileSync(lockFile, 'utf8')).packages
  const installed = JSON.parse(readFileSync(installedFile, 'utf8')).packages
  return Object.entries(locked).some(
    ([name, entry]) => name !== '' && !entry.optional && installed[name]?.version !== entry.version,
  )
}

/** What a tool says goes to stderr: the stdout of `npm pack --json`, which runs `prepare`, is npm's alone. */
function runNode(args) {
  return spawnSync(process.execPath, args, { cwd: root, stdio: ['inherit', 2, 2] }).status === 0
}

/** An incremental build leaves an output alone whose contents would not change; its time says until when it was checked. */
function markFresh(output) {
  const now = new Date()
  utimesSync(output, now, now)
}

export const tscPath = path.join(root, 'node_modules/typescript/bin/tsc')

/** False after an install without development dependencies: nothing can be built then. */
export function hasDevelopmentDependencies() {
  return existsSync(tscPath)
}

/** Compiles lib/ into dist/; false when there are errors, and then dist/ is left as it was. */
export function buildTypeScript() {
  if (!runNode([tscPath, '-p', 'tsconfig.build.json', '--noEmitOnError'])) return false
  removeOrphans(path.join(root, 'dist'), path.join(root, 'lib'))
  markFresh(path.join(root, 'dist/index.js'))
  return true
}

const PROGRAM_INPUTS = [
  'lib',
  'examples',
  'test',
  'tsconfig.json',
  'tsconfig.programs.json',
  'tools/build/programs.mjs',
]

/** Compiles the programs that tests start, unchecked, unless they are there and fresh. They import dist/. */
export function buildPrograms() {
  const mark = path.join(PROGRAMS, 'tsconfig.tsbuildinfo')
  if (!isOlderThan(mark, PROGRAM_INPUTS)) return true
  if (!runNode([tscPath, '-p', 'tsconfig.programs.json'])) return false
  connectPrograms()
  markFresh(mark)
  return true
}

/** Deletes what a source file that is gone has left in dist/: it would be published. */
function removeOrphans(output, source) {
  for (const entry of readdirSync(output, { withFileTypes: true })) {
    const target = path.join(output, entry.name)
    if (entry.isDirectory()) {
      if (existsSync(path.join(source, entry.name))) removeOrphans(target, path.join(source, entry.name))
      else rmSync(target, { recursive: true })
    } else {
      const stem = entry.name.replace(/(\.d\.ts|\.js)(\.map)?$/, '')
      if (!existsSync(path.join(source, `${stem}.ts`))) rmSync(target)
    }
  }
}

/** Configures and compiles what changed; false when it does not compile. */
export function buildNative(directory = RELEASE) {
  if (!runNode([path.join(root, 'tools/build/native.mjs'), directory])) return false
  const addon = builtAddon(directory)
  if (!addon) return false
  markFresh(addon)
  return true
}
