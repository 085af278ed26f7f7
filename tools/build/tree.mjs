/**
 * Build trees: configures and builds a preset of CMakePresets.json. Everything that compiles native code goes through here, so that a
 * source has one command line per preset and a compiler cache knows it again. Ships beside native.mjs.
 */

import { spawnSync } from 'node:child_process'
import { existsSync, readFileSync, rmSync } from 'node:fs'
import os from 'node:os'
import path from 'node:path'
import { fileURLToPath } from 'node:url'

const root = path.resolve(path.dirname(fileURLToPath(import.meta.url)), '../..')

/** The tree of a preset, or of a variant of it that has a tree of its own. */
export const treeOf = name => path.join(root, 'build', name)

/** Values of a configured tree; empty where there is none. */
export function readCache(tree) {
  const file = path.join(tree, 'CMakeCache.txt')
  if (!existsSync(file)) return {}
  const lines = readFileSync(file, 'utf8').matchAll(/^(\w+):\w+=(.*)$/gm)
  return Object.fromEntries([...lines].map(([, name, value]) => [name, value]))
}

function runs(command) {
  return spawnSync(command, ['--version'], { stdio: 'ignore' }).status === 0
}

/** The presets' own generator where it is installed; a machine with make alone builds all the same. */
function chooseGenerator() {
  return runs('ninja') || process.platform === 'win32' ? 'Ninja' : 'Unix Makefiles'
}

/** The one line of a successful configure that a person should see. */
const NOT_BUILT = /^-- CUDA backend: not built.*\n/m

/** Deletes a tree that cannot be configured again: of a checkout that has moved, or of another generator. */
function dropUnusable(tree, generator) {
  const { CMAKE_HOME_DIRECTORY: home, CMAKE_GENERATOR: made } = readCache(tree)
  if ((home && path.resolve(home) !== root) || (made && made !== generator)) rmSync(tree, { recursive: true })
}

/**
 * Configures a preset. False when that fails, after CMake's messages.
 *
 * @param preset a name of CMakePresets.json
 * @param options `tree`: a name below build/, default the preset's; `definitions`: CMake's -D, beyond the preset's; `driver`: the command
 *   that hands over to CMake
 */
export function configure(preset, { tree = preset, definitions = {}, driver = ['cmake'] } = {}) {
  const directory = treeOf(tree)
  const generator = chooseGenerator()
  dropUnusable(directory, generator)
  const flags = Object.entries(definitions).map(([name, value]) => `-D${name}=${value}`)
  const [command, ...args] = [...driver, '--preset', preset, '-S', root, '-B', directory, '-G', generator]
  const { status, stdout, error } = spawnSync(command, [...args, '--no-warn-unused-cli', ...flags], {
    cwd: root,
    encoding: 'utf8',
    stdio: ['ignore', 'pipe', 'inherit'],
  })
  if (status !== 0) console.error(stdout ?? error)
  else process.stdout.write(NOT_BUILT.exec(stdout)?.[0] ?? '')
  return status === 0
}

/** Builds targets of a configured tree; false when they do not compile. */
export function build(tree, targets, jobs = os.availableParallelism()) {
  const args = ['--build', treeOf(tree), '--parallel', String(jobs), '--target', ...targets]
  return spawnSync('cmake', args, { cwd: root, stdio: 'inherit' }).status === 0
}

/** Configures and builds, or ends the process. Returns the tree's path. */
export function buildPreset(preset, targets, options = {}) {
  const { tree = preset } = options
  if (!configure(preset, options) || !build(tree, targets)) process.exit(1)
  return treeOf(tree)
}
