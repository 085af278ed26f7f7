/** A checkpoint directory as published: config.json with one safetensors file, or with an index and its shards. */

import { stat } from 'node:fs/promises'
import path from 'node:path'
import { MoeError } from '../block/errors.js'
import { MAX_CONFIG_BYTES, parseConfig } from './config-json.js'
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
      throw new MoeError(
        'ERR_MOE_IO',
        `${directory} is not a directory; give the directory that holds config.json`,
        {
          details: { file: directory },
        },
      )
    }
  } catch (error) {
    throw error instanceof MoeError ? error : ioError(directory, error)
  }
  const configFile = path.join(directory, 'config.json')
  const expected = `; a checkpoint directory holds config.json and ${SINGLE_FILE} (or ${INDEX_FILE} with its shards)`
  const config = parseConfig(await readText(configFile, MAX_CONFIG_BYTES, pacer, expected), configFile)

  const headers = new Map<string, ReadonlyMap<string, TensorEntry>>()
  const single = path.join(directory, SINGLE_FILE)
  const indexFile = path.join(directory, INDEX_FILE)
  let index: ShardIndex
  if (await exists(single)) {
    const tensors = await readHeader(single, pacer)
    headers.set(SINGLE_FILE, tensors)
    index = singleFile(SINGLE_FILE, tensors.keys())
  } else if (await exists(indexFile)) {
    index = await parseIndex(await readText(indexFile, MAX_INDEX_BYTES, pacer), indexFile, pacer)
  } else {
    throw new MoeError('ERR_MOE_IO', `No weights in ${directory}${expected}`, {
      details: { file: directory },
    })
  }

  const { shardOf, tensorsOf } = index
  return {
    directory,
    configFile,
    config,
    has: name => shardOf.has(name),
    names: () => shardOf.keys(),
    async prepare(prefixes) {
      const shards = new Set<string>()
      for (const [name, shard] of shardOf) {
        if (!headers.has(shard) && prefixes.some(prefix => name.startsWith(prefix))) shards.add(shard)
        if (pacer.due) await pacer.turn()
      }
      for (const shard of shards) {
        const tensors = await readHeader(path.join(directory, shard), pacer)
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

function readHeader(file: string, pacer: Pacer): Promise<ReadonlyMap<string, TensorEntry>> {
  return withRegularFile(
    file,
    pacer,
    async (handle, bytes) => (await readSafetensorsHeader(handle, bytes, file, pacer)).tensors,
  )
}
