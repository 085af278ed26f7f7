/** Says in plain words what stands in the place of a checkpoint's files when a download went wrong, and what to do next. */

import { type Dirent, existsSync } from 'node:fs'
import { readdir } from 'node:fs/promises'
import path from 'node:path'

const CONFIG_FILE = 'config.json'
const SINGLE_FILE = 'model.safetensors'
const INDEX_FILE = 'model.safetensors.index.json'

/** Bytes of a file's beginning that tell what it is. */
export const PROBE_BYTES = 64

/** Most entries of a directory that are looked at for a hint. */
const MAX_ENTRIES = 4096

/** What begins like this is none of the files of a checkpoint. */
const OTHERS: readonly (readonly [RegExp, string])[] = [
  [
    /^version https:\/\/git-lfs/,
    "a Git LFS pointer, not the file itself: run 'git lfs pull' in the directory, or download the model again",
  ],
  [
    /^\s*<(!doctype|html|head|\?xml|!--)/i,
    'a web page, not the file itself: the download got a login or error page; download it again, with an access token where the model asks for one',
  ],
  [/^GGUF/, 'a GGUF file under another name: give the path of the file itself to load it'],
]

/** Whether a file is called as GGUF files are. */
export const isGgufName = (name: string) => /\.gguf$/i.test(name)

const ZIP = 'a zip or PyTorch file under another name: use the publication of the model in safetensors'

/** What a file with this beginning is instead; undefined where it may be what it should be. */
export function otherThan(beginning: Uint8Array | string): string | undefined {
  const text = typeof beginning === 'string' ? beginning : Buffer.from(beginning).toString('latin1')
  if (text.startsWith('PK\u0003\u0004')) return ZIP
  return OTHERS.find(([pattern]) => pattern.test(text.slice(0, PROBE_BYTES)))?.[1]
}

/** Names in a directory, at most some thousand. */
export async function namesOf(directory: string): Promise<string[]> {
  return (await entriesOf(directory)).map(({ name }) => name)
}

async function entriesOf(directory: string): Promise<Dirent[]> {
  try {
    return (await readdir(directory, { withFileTypes: true })).slice(0, MAX_ENTRIES)
  } catch {
    return []
  }
}

/** A folder below the directory that has one of the files, at most two levels down, as in the cache of the hub; undefined: none. */
async function folderBelow(directory: string, files: readonly string[]): Promise<string | undefined> {
  const has = (folder: string) => files.some(file => existsSync(path.join(folder, file)))
  const folders = async (parent: string) =>
    (await entriesOf(parent)).filter(entry => entry.isDirectory()).map(entry => path.join(parent, entry.name))
  const below = await folders(directory)
  const found = below.find(has)
  if (found) return found
  for (const folder of below) {
    const deeper = (await folders(folder)).find(has)
    if (deeper) return deeper
  }
  return undefined
}

/** What to do in a directory without config.json; '' where nothing in it says. */
export async function withoutConfig(directory: string): Promise<string> {
  const below = await folderBelow(directory, [CONFIG_FILE])
  if (below) return `; ${below} has one: give that directory`
  const names = (await entriesOf(directory)).map(({ name }) => name)
  const gguf = names.filter(isGgufName).sort()
  if (gguf.length > 0) return `; of the GGUF files in it give the path of one: ${gguf.slice(0, 8).join(', ')}`
  if (names.some(name => name.endsWith('.safetensors')))
    return '; the weights are here without it: download config.json of the same model'
  return ''
}

/** What to do in a directory without weights; '' where nothing in it says. */
export async function withoutWeights(directory: string): Promise<string> {
  const names = (await entriesOf(directory)).map(({ name }) => name).sort()
  const first = (pattern: RegExp) => names.find(name => pattern.test(name))
  const partial = first(/\.(incomplete|part|partial|crdownload|aria2|download|tmp)$/i)
  if (partial) return `; ${partial} is a download that did not end: let it finish, or start it again`
  const shard = first(/-\d+-of-\d+\.safetensors$/)
  if (shard) return `; ${shard} is there but ${INDEX_FILE} is not: download that too`
  const other = first(/\.safetensors$/)
  if (other)
    return `; ${other} has another name than those: rename it to model.safetensors if it holds the whole model`
  const gguf = names.find(isGgufName)
  if (gguf) return `; ${gguf} is GGUF: give the path of that file`
  const torch = first(/\.(bin|pt|pth)$/i)
  if (torch)
    return `; ${torch} is a PyTorch file: use the publication of the model in safetensors, or save it so with transformers`
  const below = await folderBelow(directory, [SINGLE_FILE, INDEX_FILE])
  return below ? `; ${below} has some: give that directory, with the config.json of the model` : ''
}

/** Where a user gave a file that is no GGUF file: what it is by its beginning, or where to look. */
export function fileInstead(file: string, beginning: Uint8Array): string {
  const instead = otherThan(beginning)
  if (instead) return `is ${instead}`
  return isGgufName(file)
    ? 'does not begin as GGUF files do: the download is damaged, fetch it again'
    : `is neither a directory nor a GGUF file; give the directory that holds ${CONFIG_FILE}`
}
