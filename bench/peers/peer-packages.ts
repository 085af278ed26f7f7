/** The peers' packages: installed in this folder, apart from the package's own, and only when they are asked for. */

import { spawnSync } from 'node:child_process'
import { existsSync, readFileSync, statSync } from 'node:fs'
import { createRequire } from 'node:module'
import path from 'node:path'

const directory = import.meta.dirname

/**
 * `npm ci` in a folder when its lockfile is newer than what is installed; without a lockfile, `npm install` of what its package.json names
 * and of `extra`. @throws when it fails
 */
export function installPackages(
  folder: string,
  flags: readonly string[] = [],
  extra: readonly string[] = [],
): void {
  const installed = path.join(folder, 'node_modules/.package-lock.json')
  const lockfile = path.join(folder, 'package-lock.json')
  const isLocked = existsSync(lockfile)
  const wanted = isLocked ? lockfile : path.join(folder, 'package.json')
  if (existsSync(installed) && statSync(installed).mtimeMs >= statSync(wanted).mtimeMs) return
  console.log(`installing the peers below ${path.relative(process.cwd(), folder)} …`)
  const command = isLocked ? ['ci'] : ['install', '--no-package-lock', '--no-save', ...extra]
  // The install script of onnxruntime-node downloads CUDA binaries, which no CPU run needs.
  const { status } = spawnSync('npm', [...command, '--ignore-scripts', '--no-audit', '--no-fund', ...flags], {
    cwd: folder,
    env: { ...process.env, ONNXRUNTIME_NODE_INSTALL: 'skip' },
    stdio: ['ignore', 'ignore', 'inherit'],
    shell: process.platform === 'win32',
  })
  if (status !== 0) throw new Error(`npm ${command[0]} in ${path.relative(process.cwd(), folder)} failed`)
}

export const installPeers = (): void => installPackages(directory)

/** Typed by the caller: the repository compiles without the peers. */
export async function peerModule<T>(name: string): Promise<T> {
  return createRequire(path.join(directory, 'package.json'))(name) as T
}

export const peerVersion = (name: string): string => packageVersion(directory, name)

export function packageVersion(folder: string, name: string): string {
  const file = path.join(folder, 'node_modules', name, 'package.json')
  return (JSON.parse(readFileSync(file, 'utf8')) as { version: string }).version
}
