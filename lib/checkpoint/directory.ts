/** A checkpoint directory as published: config.json with one safetensors file, or with an index and its shards. */

import { stat } from 'node:fs/promises'
import path from 'node:path'
import { MoeError } from '../block/errors.js'
import { MAX_CONFIG_BYTES, parseConfig } from './config-json.js'
import { fileInstead, otherThan, withoutConfig, withoutWeights } from './diagnosis.js'
import { invalidCheckpoint } from './invalid.js'
import { Pacer } from './pacer.js'
import { ioError, readText, withRegularFile } from './regular-file.js'
import { readSafetensorsHeader, type TensorEntry } from './safetensors.js'
import { MAX_INDEX_BYTES, parseIndex, type ShardIndex, singleFile } from './shard-index.js'

const SINGLE_FILE = 'model.safetensors'
const INDEX_FILE = 'model.safetensors.index.json'

/** A tensor and the file (absolute path) that holds it. */
export interface LocatedTensor extends TensorEntry {
  readonly file: string
}

/** An opened directory: names of all tensors, headers of the shards that were asked for. No file stays open. */
export interface CheckpointDirectory {
  readonly directory: string
  /** Path of config.json, for messages. */
  readonly configFile: string
  /** The parsed config.json. */
  readonly config: Readonly<Record<string, unknown>>
  /** What a user should know about how the directory was read. */
  readonly notices: readonly string[]
  has(name: string): boolean
  /** Reads the headers of all files that hold a tensor whose name begins with one of `prefixes`. */
  prepare(prefixes: readonly string[]): Promise<void>
  /** A tensor of a prepared file. */
  get(name: string): LocatedTensor | undefined
  /** All names, in no order. */
  names(): Iterable<string>
}

async function exists(file: string): Promise<boolean> {
  try {
    await stat(file)
    return true
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return false
    throw ioError(file, error)
  }
}

/**
 * Opens a directory: reads config.json and the list of tensors, no weights.
 * @throws {@link MoeError} ERR_MOE_IO, ERR_MOE_INVALID_CONFIG, ERR_MOE_INVALID_CHECKPOINT; or rejects with `signal.reason`
 */
export async function openCheckpoint(location: string, signal?: AbortSignal): Promise<CheckpointDirectory> {
  const directory = path.resolve(location)
  const pacer = new Pacer(signal)
  try {
    if (!(await stat(directory)).isDirectory()) {
      throw new MoeError('ERR_MOE_IO', `${directory} ${fileInstead(directory)}`, {
        details: { file: directory },
      })
    }
  } catch (error) {
    throw error instanceof MoeError ? error : ioError(directory, error)
  }
  const configFile = path.join(directory, 'config.json')
  const expected = `; a checkpoint directory holds config.json and ${SINGLE_FILE} (or ${INDEX_FILE} with its shards)`
  if (!(await exists(configFile))) {
    const hint = await withoutConfig(directory)
    throw new MoeError('ERR_MOE_IO', `No config.json in ${directory}${expected}${hint}`, {
      details: { file: configFile, errno: 'ENOENT' },
    })
  }
  const text = await readText(configFile, MAX_CONFIG_BYTES, pacer)
  const instead = otherThan(text)
  if (instead) {
    throw new MoeError('ERR_MOE_INVALID_CONFIG', `${configFile}: ${instead}`, {
      details: { file: configFile },
    })
  }
  const config = parseConfig(text, configFile)

  const headers = new Map<string, ReadonlyMap<string, TensorEntry>>()
  const single = path.join(directory, SINGLE_FILE)
  const indexFile = path.join(directory, INDEX_FILE)
  const notices: string[] = []
  let index: ShardIndex
  if (await exists(single)) {
    const tensors = await readHeader(single, pacer)
    if (await exists(indexFile)) {
      notices.push(
        `${directory} holds ${SINGLE_FILE} and ${INDEX_FILE}: ${SINGLE_FILE} is taken, as transformers takes it; ` +
          'remove the one that does not belong to the model',
      )
    }
    headers.set(SINGLE_FILE, tensors)
    index = singleFile(SINGLE_FILE, tensors.keys())
  } else if (await exists(indexFile)) {
    const indexText = await readText(indexFile, MAX_INDEX_BYTES, pacer)
    const page = otherThan(indexText)
    if (page) throw invalidCheckpoint(indexFile, page)
    index = await parseIndex(indexText, indexFile, pacer)
  } else {
    const hint = await withoutWeights(directory)
    throw new MoeError('ERR_MOE_IO', `No weights in ${directory}${expected}${hint}`, {
      details: { file: directory },
    })
  }

  const { shardOf, tensorsOf } = index
  return {
    directory,
    configFile,
    config,
    notices,
    has: name => shardOf.has(name),
    names: () => shardOf.keys(),
    async prepare(prefixes) {
      const shards = new Set<string>()
      for (const [name, shard] of shardOf) {
        if (!headers.has(shard) && prefixes.some(prefix => name.startsWith(prefix))) shards.add(shard)
        if (pacer.due) await pacer.turn()
      }
      for (const shard of shards) {
        const hint = `; ${INDEX_FILE} names it: the download is not complete, fetch that file too`
        const tensors = await readHeader(path.join(directory, shard), pacer, hint)
        const missing = tensorsOf.get(shard)!.find(name => !tensors.has(name))
        if (missing !== undefined) {
          throw invalidCheckpoint(indexFile, `tensor '${missing}' is not in ${shard}`, { tensor: missing })
        }
        headers.set(shard, tensors)
      }
    },
    get(name) {
      const shard = shardOf.get(name)
      const entry = shard === undefined ? undefined : headers.get(shard)?.get(name)
      return entry && { ...entry, file: path.join(directory, shard!) }
    },
  }
}

function readHeader(file: string, pacer: Pacer, hint?: string): Promise<ReadonlyMap<string, TensorEntry>> {
  return withRegularFile(
    file,
    pacer,
    async (handle, bytes) => (await readSafetensorsHeader(handle, bytes, file, pacer)).tensors,
    hint,
  )
}
