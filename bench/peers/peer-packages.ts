/** The peers' packages, which lie in this folder. */

import { createRequire } from 'node:module'
import path from 'node:path'
import { installPackages, packageVersion } from '../harness/packages.js'

const directory = import.meta.dirname

export const installPeers = (): void => installPackages(directory)

/** Typed by the caller: the repository compiles without the peers. */
export async function peerModule<T>(name: string): Promise<T> {
  return createRequire(path.join(directory, 'package.json'))(name) as T
}

export const peerVersion = (name: string): string => packageVersion(directory, name)
