/** Packages that one benchmark alone needs: installed in a folder of its own, and only when they are asked for. */

import { spawnSync } from 'node:child_process'
import { existsSync, readFileSync, statSync } from 'node:fs'
import path from 'node:path'

/**
 * `npm ci` in a folder when its lockfile is newer than what is installed; without a lockfile, `npm install` of what its package.json names
 * and of `extra`. Runs no install scripts. @throws when it fails
 */
export function installPackages(
  folder: string,
  flags: readonly string[] = [],
  extra: readonly string[] = [],
): void {
  if (arePackagesInstalled(folder)) return
  console.log(`installing the packages of ${path.relative(process.cwd(), folder)} …`)
  const isLocked = existsSync(lockfileOf(folder))
  const command = isLocked ? ['ci'] : ['install', '--no-package-lock', '--no-save', ...extra]
  const { status } = spawnSync('npm', [...command, '--ignore-scripts', '--no-audit', '--no-fund', ...flags], {
    cwd: folder,
    // The install script of onnxruntime-node downloads CUDA binaries, which no CPU run needs.
    env: { ...process.env, ONNXRUNTIME_NODE_INSTALL: 'skip' },
    stdio: ['ignore', 'ignore', 'inherit'],
    shell: process.platform === 'win32',
  })
  if (status !== 0) throw new Error(`npm ${command[0]} in ${path.relative(process.cwd(), folder)} failed`)
}

export function arePackagesInstalled(folder: string): boolean {
  const installed = path.join(folder, 'node_modules/.package-lock.json')
  const lockfile = lockfileOf(folder)
  const wanted = existsSync(lockfile) ? lockfile : path.join(folder, 'package.json')
  return existsSync(installed) && statSync(installed).mtimeMs >= statSync(wanted).mtimeMs
}

const lockfileOf = (folder: string) => path.join(folder, 'package-lock.json')

export function packageVersion(folder: string, name: string): string {
  const file = path.join(folder, 'node_modules', name, 'package.json')
  return (JSON.parse(readFileSync(file, 'utf8')) as { version: string }).version
}
