/** The peers' packages: installed in this folder, apart from the package's own, and only when they are asked for. */

import { spawnSync } from 'node:child_process'
import { existsSync, readFileSync, statSync } from 'node:fs'
import { createRequire } from 'node:module'
import path from 'node:path'

const directory = import.meta.dirname

/** `npm ci` in this folder when its lockfile is newer than what is installed. @throws when it fails */
export function installPeers(): void {
  const installed = path.join(directory, 'node_modules/.package-lock.json')
  const locked = path.join(directory, 'package-lock.json')
  if (existsSync(installed) && statSync(installed).mtimeMs >= statSync(locked).mtimeMs) return
  console.log('installing the peers below bench/peers …')
  // The install script of onnxruntime-node downloads CUDA binaries, which no CPU run needs.
  const { status } = spawnSync('npm', ['ci', '--ignore-scripts', '--no-audit', '--no-fund'], {
    cwd: directory,
    env: { ...process.env, ONNXRUNTIME_NODE_INSTALL: 'skip' },
    stdio: ['ignore', 'ignore', 'inherit'],
    shell: process.platform === 'win32',
  })
  if (status !== 0) throw new Error('npm ci in bench/peers failed')
}

/** Typed by the caller: the repository compiles without the peers. */
export async function peerModule<T>(name: string): Promise<T> {
  return createRequire(path.join(directory, 'package.json'))(name) as T
}

export function peerVersion(name: string): string {
  const file = path.join(directory, 'node_modules', name, 'package.json')
  return (JSON.parse(readFileSync(file, 'utf8')) as { version: string }).version
}
