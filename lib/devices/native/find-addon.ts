/**
 * Looks for the addon's file: a source build in build/Release or a prebuild for this platform, as node-gyp-build finds them, or either of
 * them beside a bundle. Where node-gyp-build cannot be asked (a bundle cannot hold it, and it reads files that a restricted process may not)
 * or finds nothing, the same places are looked into here, so that an error can say what was there.
 */

import { readdirSync } from 'node:fs'
import path from 'node:path'
import { libcName } from './libc.js'
import { isDenied, location } from './location.js'

/** Names the addon's file itself, before any search. */
export const PATH_VARIABLE = 'SPARSE_EXPERTS_NATIVE_PATH'
/** Names a directory with build/Release or prebuilds in it, which is then the only one. */
export const DIRECTORY_VARIABLE = 'SPARSE_EXPERTS_PREBUILD'
/** Skips source builds. */
const PREBUILDS_VARIABLE = 'PREBUILDS_ONLY'

/** As CMake names a build, and as prebuildify does: 'sparse-experts.glibc.node'. */
const ADDON_NAME = /^sparse[-_]experts(\.[^.]+)*\.node$/

/** What a search came to. */
export interface Search {
  /** The addon's file. */
  readonly file?: string
  /** Directories that were looked into, in their order. */
  readonly searched: readonly string[]
  /** Of those, the ones that this process may not read. */
  readonly denied: readonly string[]
  /** Prebuilds that are there and do not serve here: 'linux-arm64', or 'musl' for one of another C library. */
  readonly others: readonly string[]
}

/** What a runtime may refuse to tell, as Deno does without its permission; then it counts as not set. */
export function variable(name: string): string | undefined {
  try {
    return process.env[name] || undefined
  } catch {
    return undefined
  }
}

/** 'linux-x64': the folder of a prebuild. */
export const platformName = () => `${process.platform}-${process.arch}`

/** The names of a directory's entries; none where it is not there. */
function namesIn(directory: string, denied: string[]): string[] {
  try {
    return readdirSync(directory)
  } catch (error) {
    if (isDenied(error)) denied.push(directory)
    return []
  }
}

/** The C library that a prebuild is for; undefined: any. */
const libcTag = (name: string) => name.split('.').find(tag => tag === 'glibc' || tag === 'musl')

/** Whether an addon is for the C library here. Where that is unknown glibc is by far the likelier. */
function serves(name: string): boolean {
  const tag = libcTag(name)
  if (tag === undefined || process.platform !== 'linux') return true
  return tag === (libcName() === 'musl' ? 'musl' : 'glibc')
}

/** What node-gyp-build finds below the package; undefined where it finds nothing or cannot be asked. */
function packagedAddon(root: string): string | undefined {
  try {
    // Not an import, because bundlers would follow it.
    const { createRequire } = process.getBuiltinModule('node:module')
    const { path: find } = createRequire(path.join(root, 'package.json'))('node-gyp-build') as {
      path(directory: string): string
    }
    return find(root)
  } catch {
    return undefined
  }
}

/** @returns what was found; never throws */
export function findAddon(): Search {
  const named = variable(PATH_VARIABLE)
  if (named) {
    const file = path.resolve(named)
    return { file, searched: [path.dirname(file)], denied: [], others: [] }
  }
  const directory = variable(DIRECTORY_VARIABLE)
  const { root, isBundled, beside } = location()
  const packaged = isBundled ? undefined : packagedAddon(root)
  if (packaged && ADDON_NAME.test(path.basename(packaged)) && serves(path.basename(packaged)))
    return { file: packaged, searched: [path.dirname(packaged)], denied: [], others: [] }
  const places = directory ? [path.resolve(directory)] : [root, ...beside]
  const searched: string[] = []
  const denied: string[] = []
  const others = new Set<string>()
  const look = (folder: string) => {
    if (searched.includes(folder)) return undefined
    searched.push(folder)
    const addons = namesIn(folder, denied).filter(name => ADDON_NAME.test(name))
    for (const name of addons) if (!serves(name)) others.add(libcTag(name)!)
    const found = addons.filter(serves).sort()[0]
    return found && path.join(folder, found)
  }
  for (const place of places) {
    const prebuilds = path.join(place, 'prebuilds')
    const file =
      (variable(PREBUILDS_VARIABLE) ? undefined : look(path.join(place, 'build/Release'))) ??
      look(path.join(prebuilds, platformName())) ??
      // A bundle's own folder may hold the file itself.
      (beside.includes(place) ? look(place) : undefined)
    if (file) return { file, searched, denied, others: [] }
    for (const name of namesIn(prebuilds, [])) if (name !== platformName()) others.add(name)
  }
  return { searched, denied, others: [...others].sort() }
}
