/** Says in plain words what stands in the place of a checkpoint's files when a download went wrong, and what to do next. */

import { existsSync } from 'node:fs'
import path from 'node:path'
import { entriesOf } from './entries.js'
import { inHubCache, partialDownload } from './hub-cache.js'
import { AGAIN, DAMAGED } from './invalid.js'

const CONFIG_FILE = 'config.json'
const SINGLE_FILE = 'model.safetensors'
const INDEX_FILE = 'model.safetensors.index.json'

/** Bytes of a file's beginning that tell what it is. */
export const PROBE_BYTES = 64

const TOKEN = 'download it again, with an access token where the model asks for one'

/** What begins like this is none of the files of a checkpoint. White space and a byte order mark in front do not count. */
const OTHERS: readonly (readonly [RegExp, string])[] = [
  [
    /^version https:\/\/git-lfs/,
    "a Git LFS pointer, not the file itself: run 'git lfs pull' in the directory, or download the model again",
  ],
  [
    /^<(!doctype|html|head|body|\?xml|!--|error)/i,
    `a web page, not the file itself: the download got a login or error page; ${TOKEN}`,
  ],
  [
    /^(\{\s*"(error|errors|message|detail)"\s*:|(entry|repository|file|page|not) (was )?not found|not found|invalid (username|credentials|user)|access to (model|dataset|this)|unauthorized|forbidden|too many requests|we had to rate limit|(error )?(401|403|404|429|5\d\d)\b)/i,
    `a server's answer, not the file itself: the download was refused; ${TOKEN}`,
  ],
]

const COMPRESSED = 'a compressed file: unpack it first'

/** The same by the very first bytes, each as a character. */
const MAGICS: readonly (readonly [string, string])[] = [
  ['GGUF', 'a GGUF file under another name: give the path of the file itself to load it'],
  [
    'PK\u0003\u0004',
    'a zip or PyTorch file under another name: use the publication of the model in safetensors',
  ],
  ['\u001f\u008b', COMPRESSED],
  ['\u0028\u00b5\u002f\u00fd', COMPRESSED],
  ['\u00fd7zXZ', COMPRESSED],
  [
    '\0'.repeat(16),
    'zeros, not the file itself: the download has reserved the file and not written it: fetch it again',
  ],
]

/** What a file with this beginning is instead; undefined where it may be what it should be. */
export function otherThan(beginning: Uint8Array | string): string | undefined {
  const text = typeof beginning === 'string' ? beginning : Buffer.from(beginning).toString('latin1')
  const start = text.slice(0, PROBE_BYTES).replace(/^(\ufeff|\xef\xbb\xbf)?\s*/, '')
  const magic = MAGICS.find(([bytes]) => text.startsWith(bytes))
  return magic?.[1] ?? OTHERS.find(([pattern]) => pattern.test(start))?.[1]
}

/** Whether a file is called as GGUF files are. */
export const isGgufName = (name: string) => /\.gguf$/i.test(name)

/** Names in a directory, at most some thousand. */
export async function namesOf(directory: string): Promise<string[]> {
  return (await entriesOf(directory)).map(({ name }) => name)
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
  const cached = await inHubCache(directory)
  if (cached) return `; ${cached}`
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
  const partial = await partialDownload(directory)
  if (partial) return `; ${partial} is a download that did not end: let it finish, or start it again`
  const shard = first(/-\d+-of-\d+\.safetensors$/)
  if (shard) return `; ${shard} is there but ${INDEX_FILE} is not: download that too`
  const other = names.find(name => name.endsWith('.safetensors') && name !== SINGLE_FILE)
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
  if (beginning.length === 0) return `is empty; ${AGAIN}`
  return isGgufName(file)
    ? `does not begin as GGUF files do; ${DAMAGED}`
    : `is neither a directory nor a GGUF file; give the directory that holds ${CONFIG_FILE}`
}
