/**
 * The cache that Hugging Face's tools keep, as far as a person who gives the wrong one of its folders needs it:
 * `hub/models--<org>--<name>/{blobs,refs,snapshots/<revision>}`, whose snapshots are links into `blobs`.
 */

import { existsSync } from 'node:fs'
import { lstat, readFile, readlink, stat } from 'node:fs/promises'
import path from 'node:path'
import { entriesOf } from './entries.js'

const CONFIG_FILE = 'config.json'
/** What downloads are called until they are complete. */
const PARTIAL = /\.(incomplete|part|partial|crdownload|aria2|download|tmp)$/i

const DOWNLOAD = "run 'hf download' for the model again"

/** A file below the directory, in the cache that it belongs to or in that of a download into it, which a download has not ended. */
export async function partialDownload(directory: string): Promise<string | undefined> {
  const own = (await entriesOf(directory)).find(({ name }) => PARTIAL.test(name))
  if (own) return own.name
  const folders = ['blobs', '../../blobs', '.cache/huggingface/download']
  for (const folder of folders.map(name => path.join(directory, name))) {
    const entry = (await entriesOf(folder)).find(({ name }) => PARTIAL.test(name))
    if (entry) return path.join(folder, entry.name)
  }
  return undefined
}

/** The snapshot of a model's folder in the cache that `main` names, else any that has a config. */
async function snapshotOf(model: string): Promise<string | undefined> {
  const snapshots = path.join(model, 'snapshots')
  let main: string | undefined
  try {
    main = (await readFile(path.join(model, 'refs/main'), 'utf8')).trim()
  } catch {}
  const names = (await entriesOf(snapshots)).map(({ name }) => name).sort()
  return [main, ...names]
    .filter(name => name !== undefined && names.includes(name))
    .map(name => path.join(snapshots, name!))
    .find(folder => existsSync(path.join(folder, CONFIG_FILE)))
}

/** What to do with a folder of the cache that is no snapshot; undefined where the directory is none. */
export async function inHubCache(directory: string): Promise<string | undefined> {
  const names = (await entriesOf(directory)).map(({ name }) => name)
  if (names.includes('snapshots') || names.includes('blobs')) {
    const snapshot = await snapshotOf(directory)
    if (snapshot) return `this is a model's folder in the cache of the hub: give its snapshot, ${snapshot}`
    return `this is a model's folder in the cache of the hub, and no snapshot in it has a ${CONFIG_FILE}: ${DOWNLOAD}`
  }
  const hub = names.includes('hub') ? path.join(directory, 'hub') : directory
  const models = (await entriesOf(hub)).map(({ name }) => name).filter(name => name.startsWith('models--'))
  if (models.length === 0) return undefined
  for (const model of models.sort()) {
    const snapshot = await snapshotOf(path.join(hub, model))
    if (snapshot)
      return `this is the cache of the hub: give the snapshot of one of its models, such as ${snapshot}`
  }
  return `this is the cache of the hub, and no model in it is complete: ${DOWNLOAD}`
}

/** Of a link whose target is not there: what it is, and what to do; undefined where `file` is no such link. */
export async function danglingLink(file: string): Promise<string | undefined> {
  try {
    if (!(await lstat(file)).isSymbolicLink()) return undefined
  } catch {
    return undefined
  }
  try {
    await stat(file)
    return undefined
  } catch {}
  const target = await readlink(file)
  const isCached = /(^|[\\/])blobs[\\/]/.test(target)
  const help = isCached
    ? `the cache of the hub is not complete, ${DOWNLOAD}`
    : 'copy the files themselves, or download the model again'
  return `is a link to ${target}, which is not there: ${help}`
}
