/** Parts of the demo that are no use of the library: the checkpoint's place on disk, and the table of words and experts. */

import { createHash } from 'node:crypto'
import { copyFile, link, mkdir, mkdtemp, readFile, rename, rm, stat, writeFile } from 'node:fs/promises'
import os from 'node:os'
import path from 'node:path'
import { heatLine, type Paint, table } from '../../lib/cli/format.js'
import {
  type CheckpointShape,
  checkpointConfig,
  type WriteProgress,
  writeCheckpoint,
} from './write-checkpoint.js'

const exists = (file: string) =>
  stat(file).then(
    () => true,
    () => false,
  )

/**
 * The demo's checkpoint, written at the first use and kept in `cache`. It appears under its name only when it is complete.
 *
 * @returns its directory, and whether it had to be written
 */
export async function cachedCheckpoint(
  cache: string,
  shape: CheckpointShape,
  onProgress: WriteProgress,
): Promise<{ directory: string; written: boolean }> {
  // A checkpoint of another writer or shape must not be taken for this one.
  const writer = await readFile(new URL('./write-checkpoint.ts', import.meta.url))
  const version = createHash('sha256').update(writer).update(JSON.stringify(shape)).digest('hex').slice(0, 8)
  const name = `deepseek-v3-layout-${version}`
  const directory = path.join(cache, name)
  if (await exists(path.join(directory, 'config.json'))) return { directory, written: false }
  await mkdir(cache, { recursive: true })
  const draft = await mkdtemp(path.join(cache, `${name}-`))
  await writeCheckpoint(draft, shape, onProgress)
  await rename(draft, directory).catch(async error => {
    await rm(draft, { recursive: true, force: true })
    // Another demo was faster: its checkpoint is the same.
    if (!(await exists(path.join(directory, 'config.json')))) throw error
  })
  return { directory, written: true }
}

/** `node_modules/.cache` of the repository, or the system's temporary directory where that cannot be written. */
export async function cacheDirectory(): Promise<string> {
  const inRepository = path.resolve('node_modules/.cache/sparse-experts-demo')
  try {
    if (!(await exists(path.resolve('node_modules')))) throw new Error('no node_modules')
    await mkdir(inRepository, { recursive: true })
    return inRepository
  } catch {
    return path.join(os.tmpdir(), 'sparse-experts-demo')
  }
}

/** The same weights under a config that sends every token to every expert: what a dense layer costs. Caller removes the directory. */
export async function denseVariant(checkpoint: string, shape: CheckpointShape): Promise<string> {
  const directory = await mkdtemp(path.join(path.dirname(checkpoint), 'dense-'))
  const indexName = 'model.safetensors.index.json'
  const index = JSON.parse(await readFile(path.join(checkpoint, indexName), 'utf8'))
  for (const file of new Set([indexName, ...(Object.values(index.weight_map) as string[])])) {
    const [from, to] = [path.join(checkpoint, file), path.join(directory, file)]
    await link(from, to).catch(() => copyFile(from, to))
  }
  const config = checkpointConfig(shape, { num_experts_per_tok: shape.numExperts, n_group: 1, topk_group: 1 })
  await writeFile(path.join(directory, 'config.json'), JSON.stringify(config))
  return directory
}

/** Where one word went. */
interface WordRouting {
  word: string
  count: number
  /** Tokens of this word that each expert worked on, `[numExperts]`. */
  experts: Float64Array
}

/** Routing by word, the most frequent first; words, not punctuation marks. */
export function routingByWord(
  tokens: readonly string[],
  topkIds: Int32Array,
  topK: number,
  numExperts: number,
): WordRouting[] {
  const words = new Map<string, WordRouting>()
  tokens.forEach((token, row) => {
    const word = token.toLowerCase()
    if (!/\p{L}/u.test(word)) return
    const entry = words.get(word) ?? { word, count: 0, experts: new Float64Array(numExperts) }
    words.set(word, entry)
    entry.count++
    for (const id of topkIds.subarray(row * topK, (row + 1) * topK)) if (id >= 0) entry.experts[id]!++
  })
  return [...words.values()].sort((a, b) => b.count - a.count || (a.word < b.word ? -1 : 1))
}

/** One row per word: how often, its three main experts with the share of its occurrences, and a character per expert. */
export function wordTable(routing: readonly WordRouting[], count: number, paint: Paint): string[] {
  return table(
    routing.slice(0, count).map(({ word, count: occurrences, experts }) => {
      const main = Array.from(experts, (tokens, expert) => ({ tokens, expert }))
        .sort((a, b) => b.tokens - a.tokens || a.expert - b.expert)
        .slice(0, 3)
      const shares = main.map(
        ({ tokens, expert }) => `#${expert} ${Math.round((100 * tokens) / occurrences)} %`,
      )
      return [
        paint.bold(word),
        `${occurrences}×`,
        shares.join(', '),
        paint.cyan(heatLine(experts, occurrences)),
      ]
    }),
    'lrll',
  )
}
