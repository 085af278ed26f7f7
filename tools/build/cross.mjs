/**
 * The platforms that prebuilds are made for, and the addon for those that are not this machine's: compiled by a cross compiler in a tree of
 * its own, with the presets of CMakePresets.json.
 */

import { spawnSync } from 'node:child_process'
import { mkdirSync } from 'node:fs'
import path from 'node:path'
import { buildPreset } from './tree.mjs'

/**
 * A row for each folder of prebuilds/. Dropping one is a breaking change.
 *
 * - file: the addon's, as lib/devices/native/find-addon.ts looks for it
 * - libc: the C library that it is for, where there is more than one
 * - cross: its programs' prefix and suffix, Debian's package of them, where this repository compiles it on another machine
 */
export const PLATFORMS = {
  'linux-x64': { file: 'sparse-experts.glibc.node', libc: 'glibc' },
  'linux-arm64': {
    file: 'sparse-experts.glibc.node',
    libc: 'glibc',
    cross: {
      compiler: 'aarch64-linux-gnu-g++-12',
      strip: 'aarch64-linux-gnu-strip',
      package: 'g++-12-aarch64-linux-gnu',
    },
  },
  'win32-x64': {
    file: 'sparse-experts.node',
    cross: {
      compiler: 'x86_64-w64-mingw32-g++-posix',
      strip: 'x86_64-w64-mingw32-strip',
      package: 'g++-mingw-w64-x86-64-posix',
    },
  },
}

/** The platforms that are compiled on another machine. */
export const CROSS = Object.keys(PLATFORMS).filter(name => PLATFORMS[name].cross)

/** Ends the process where a program is missing, with the package that has it. */
export function expectProgram(script, program, debianPackage) {
  if (spawnSync(program, ['--version'], { stdio: 'ignore' }).error === undefined) return
  console.error(
    `${script}: ${program} is not installed (Debian: 'apt-get install --no-install-recommends ${debianPackage}')`,
  )
  process.exit(3)
}

/**
 * Compiles the addon of a platform and takes its debugging symbols away, or ends the process.
 *
 * @param script whose messages these are
 * @param target one of CROSS
 * @param directory where the addon goes, under the name of a prebuild
 * @returns the addon's file
 */
export function crossBuild(script, target, directory) {
  const { cross, file } = PLATFORMS[target]
  expectProgram(script, cross.compiler, cross.package)
  const tree = buildPreset(target, ['sparse_experts'])
  const addon = path.join(directory, file)
  mkdirSync(directory, { recursive: true })
  const built = path.join(tree, 'Release/sparse_experts.node')
  if (spawnSync(cross.strip, ['-o', addon, built], { stdio: 'inherit' }).status !== 0) process.exit(1)
  return addon
}
