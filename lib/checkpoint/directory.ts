/** A checkpoint directory as published: config.json with one safetensors file, or with an index and its shards. */

import { open, readFile, stat } from 'node:fs/promises'
import path from 'node:path'
import { setImmediate as nextTurn } from 'node:timers/promises'
import { MoeError } from '../block/errors.js'
import { JsonScanError, JsonScanner } from './json-scanner.js'
import { invalidCheckpoint, readSafetensorsHeader, type TensorEntry } from './safetensors.js'

const SINGLE_FILE = 'model.safetensors'
const INDEX_FILE = 'model.safetensors.index.json'
const MAX_CONFIG_BYTES = 16 * 1024 * 1024
const MAX_INDEX_BYTES = 256 * 1024 * 1024
const NAMES_PER_TURN = 4096

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

function ioError(file: string, cause: unknown, hint = ''): MoeError {
  const code = (cause as NodeJS.ErrnoException).code
  const reason = code === 'ENOENT' ? 'no such file or directory' : ((cause as Error).message ?? String(cause))
  return new MoeError('ERR_MOE_IO', `Cannot read ${file}: ${reason}${hint}`, {
    cause,
    details: { file, errno: code },
  })
}

async function readText(file: string, maxBytes: number, hint?: string): Promise<string> {
  let bytes: Buffer
  try {
    const { size } = await stat(file)
    if (size > maxBytes) throw invalidCheckpoint(file, `${size} bytes are above the cap of ${maxBytes}`)
    bytes = await readFile(file)
  } catch (error) {
    throw error instanceof MoeError ? error : ioError(file, error, hint)
  }
  try {
    return new TextDecoder('utf-8', { fatal: true }).decode(bytes)
  } catch (cause) {
    throw new MoeError('ERR_MOE_INVALID_CHECKPOINT', `${file} is not UTF-8`, { cause, details: { file } })
  }
}

/** Parses config.json; the bare NaN and Infinity that Python writes are read as null. */
export function parseConfig(text: string, file: string): Record<string, unknown> {
  let value: unknown
  try {
    const json = text.replace(/"(?:[^"\\]|\\.)*"|-?\b(?:NaN|Infinity)\b/g, token =>
      token[0] === '"' ? token : 'null',
    )
    value = JSON.parse(json)
  } catch (cause) {
    throw new MoeError('ERR_MOE_INVALID_CONFIG', `${file} is not JSON: ${(cause as Error).message}`, {
      cause,
      details: { file },
    })
  }
  if (typeof value !== 'object' || value === null || Array.isArray(value)) {
    throw new MoeError('ERR_MOE_INVALID_CONFIG', `${file} does not hold a JSON object`, { details: { file } })
  }
  return value as Record<string, unknown>
}

/** Tensor name → shard file name. Shard names must be plain names, so that no shard lies outside the directory. */
export async function parseIndex(text: string, file: string): Promise<Map<string, string>> {
  let weightMap: Map<string, string> | undefined
  const scanner = new JsonScanner(text)
  try {
    const seen = new Set<string>()
    for (const key of scanner.keys()) {
      if (seen.has(key)) scanner.fail(`duplicate key ${JSON.stringify(key)}`)
      seen.add(key)
      if (key !== 'weight_map') {
        scanner.skipValue()
        continue
      }
      weightMap = new Map()
      for (const name of scanner.keys()) {
        if (weightMap.has(name)) scanner.fail(`duplicate tensor name ${JSON.stringify(name)}`)
        weightMap.set(name, scanner.string())
        if (weightMap.size % NAMES_PER_TURN === 0) await nextTurn()
      }
    }
    scanner.end()
  } catch (error) {
    if (!(error instanceof JsonScanError)) throw error
    throw invalidCheckpoint(file, `malformed index: ${error.message}`, { offset: error.position })
  }
  if (!weightMap) throw invalidCheckpoint(file, 'the index has no weight_map')
  for (const [tensor, shard] of weightMap) {
    if (!isPlainFileName(shard)) {
      throw invalidCheckpoint(file, `shard ${JSON.stringify(shard)} is not a plain file name`, { tensor })
    }
  }
  return weightMap
}

function isPlainFileName(name: string): boolean {
  return name.endsWith('.safetensors') && !/[/\\:\0]/.test(name) && !name.startsWith('.')
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
 * @throws {@link MoeError} ERR_MOE_IO, ERR_MOE_INVALID_CONFIG, ERR_MOE_INVALID_CHECKPOINT
 */
export async function openCheckpoint(location: string): Promise<CheckpointDirectory> {
  const directory = path.resolve(location)
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
  const config = parseConfig(await readText(configFile, MAX_CONFIG_BYTES, expected), configFile)

  const headers = new Map<string, ReadonlyMap<string, TensorEntry>>()
  const single = path.join(directory, SINGLE_FILE)
  const indexFile = path.join(directory, INDEX_FILE)
  let shardOf: Map<string, string>
  if (await exists(single)) {
    const tensors = await readHeader(single)
    headers.set(SINGLE_FILE, tensors)
    shardOf = new Map(Array.from(tensors.keys(), name => [name, SINGLE_FILE]))
  } else if (await exists(indexFile)) {
    shardOf = await parseIndex(await readText(indexFile, MAX_INDEX_BYTES), indexFile)
  } else {
    throw new MoeError('ERR_MOE_IO', `No weights in ${directory}${expected}`, {
      details: { file: directory },
    })
  }

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
      }
      for (const shard of shards) {
        const tensors = await readHeader(path.join(directory, shard))
        for (const [name, of] of shardOf) {
          if (of === shard && !tensors.has(name)) {
            throw invalidCheckpoint(indexFile, `tensor '${name}' is not in ${shard}`, { tensor: name })
          }
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

async function readHeader(file: string): Promise<ReadonlyMap<string, TensorEntry>> {
  try {
    const handle = await open(file, 'r')
    try {
      const info = await handle.stat()
      if (!info.isFile()) throw invalidCheckpoint(file, 'not a regular file')
      return (await readSafetensorsHeader(handle, info.size, file)).tensors
    } finally {
      await handle.close()
    }
  } catch (error) {
    throw error instanceof MoeError ? error : ioError(file, error)
  }
}
