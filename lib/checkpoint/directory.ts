/** Opens a checkpoint as published: a directory of config.json with one safetensors file, or with an index and its shards; or a GGUF file. */

import { stat } from 'node:fs/promises'
import path from 'node:path'
import { MoeError } from '../block/errors.js'
import type { CheckpointDirectory, LocatedTensor } from './checkpoint.js'
import { MAX_CONFIG_BYTES, parseConfig } from './config-json.js'
import { fileInstead, namesOf, otherThan, PROBE_BYTES, withoutConfig, withoutWeights } from './diagnosis.js'
import { onlyModel, openGguf } from './gguf/checkpoint.js'
import { isGguf } from './gguf/header.js'
import { danglingLink } from './hub-cache.js'
import { invalidCheckpoint } from './invalid.js'
import { OpenFiles } from './open-files.js'
import { Pacer } from './pacer.js'
import { ioError, type ReadableFile, readBeginning, readText } from './regular-file.js'
import { readSafetensorsHeader, type TensorEntry } from './safetensors.js'
import { MAX_INDEX_BYTES, parseIndex, type ShardIndex, singleFile } from './shard-index.js'
import { TensorNames } from './tensor-names.js'

const SINGLE_FILE = 'model.safetensors'
const INDEX_FILE = 'model.safetensors.index.json'

async function exists(file: string): Promise<boolean> {
  try {
    await stat(file)
    return true
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw ioError(file, error)
    const dangling = await danglingLink(file)
    if (dangling) throw ioError(file, error, `; it ${dangling}`)
    return false
  }
}

/**
 * Opens a checkpoint: reads its config and the list of tensors, no weights. Its files stay open: to be closed. A file is one in GGUF, whatever it is called; so is a directory
 * that has no config.json and one model in GGUF.
 * @throws {@link MoeError} ERR_MOE_IO, ERR_MOE_INVALID_CONFIG, ERR_MOE_INVALID_CHECKPOINT; of a GGUF file also
 * ERR_MOE_UNSUPPORTED_FAMILY, ERR_MOE_UNSUPPORTED_FORMAT, ERR_MOE_NOT_SPARSE; or rejects with `signal.reason`
 */
export async function openSource(location: string, signal?: AbortSignal): Promise<CheckpointDirectory> {
  const files = new OpenFiles()
  try {
    return await openIn(files, location, signal)
  } catch (error) {
    await files.close()
    throw error
  }
}

async function openIn(
  files: OpenFiles,
  location: string,
  signal: AbortSignal | undefined,
): Promise<CheckpointDirectory> {
  const source = path.resolve(location)
  const pacer = new Pacer(signal)
  let isDirectory: boolean
  try {
    isDirectory = (await stat(source)).isDirectory()
  } catch (error) {
    const dangling = await danglingLink(source)
    throw ioError(source, error, dangling && `; it ${dangling}`)
  }
  if (isDirectory) return openDirectory(files, source, pacer)
  const beginning = await readBeginning(source, PROBE_BYTES, pacer)
  if (isGguf(beginning)) return openGguf(files, source, pacer)
  throw new MoeError('ERR_MOE_IO', `${source} ${fileInstead(source, beginning)}`, {
    details: { file: source },
  })
}

async function openDirectory(
  files: OpenFiles,
  directory: string,
  pacer: Pacer,
): Promise<CheckpointDirectory> {
  const configFile = path.join(directory, 'config.json')
  const expected = `; a checkpoint directory holds config.json and ${SINGLE_FILE} (or ${INDEX_FILE} with its shards)`
  if (!(await exists(configFile))) {
    const file = onlyModel(await namesOf(directory))
    if (file !== undefined) return openGguf(files, path.join(directory, file), pacer)
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

  const located = new Map<string, LocatedTensor>()
  const locate = (tensors: Iterable<TensorEntry>, file: string) => {
    for (const entry of tensors) located.set(entry.name, { ...entry, file })
  }
  const single = path.join(directory, SINGLE_FILE)
  const indexFile = path.join(directory, INDEX_FILE)
  const notices: string[] = []
  let index: ShardIndex
  const isSingle = await exists(single)
  if (isSingle) {
    const tensors = await readHeader(files, single, pacer)
    if (await exists(indexFile)) {
      notices.push(
        `${directory} holds ${SINGLE_FILE} and ${INDEX_FILE}: ${SINGLE_FILE} is taken, as transformers takes it; ` +
          'remove the one that does not belong to the model',
      )
    }
    locate(tensors.values(), single)
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
  const names = await TensorNames.of(shardOf.keys(), pacer)
  const paths = new Map([...tensorsOf.keys()].map(shard => [shard, path.join(directory, shard)]))
  const unread = new Set(isSingle ? [] : tensorsOf.keys())
  const readShard = async (shard: string, reading: Pacer) => {
    const hint = `; ${INDEX_FILE} names it: the download is not complete, fetch that file too`
    const tensors = await readHeader(files, paths.get(shard)!, reading, hint)
    const missing = tensorsOf.get(shard)!.find(name => !tensors.has(name))
    if (missing !== undefined) {
      throw invalidCheckpoint(indexFile, `tensor '${missing}' is not in ${shard}`, { tensor: missing })
    }
    // Of a tensor that several shards hold the index names one.
    const own = tensorsOf.get(shard)!.map(name => tensors.get(name)!)
    locate(own, paths.get(shard)!)
    unread.delete(shard)
  }
  return {
    directory,
    configFile,
    config,
    notices,
    names,
    files,
    has: name => shardOf.has(name),
    async prepare(prefix, signal) {
      const reading = new Pacer(signal)
      const shards = new Set(names.below(prefix).map(name => shardOf.get(name)!))
      for (const shard of shards) if (unread.has(shard)) await readShard(shard, reading)
    },
    get: name => located.get(name),
  }
}

function readHeader(
  files: OpenFiles,
  file: string,
  pacer: Pacer,
  hint?: string,
): Promise<ReadonlyMap<string, TensorEntry>> {
  const read = async (handle: ReadableFile, bytes: number) =>
    (await readSafetensorsHeader(handle, bytes, file, pacer)).tensors
  return files.use(file, pacer, read, hint)
}
