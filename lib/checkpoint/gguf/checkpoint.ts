/** A GGUF file, or the shards of a split one, opened as a checkpoint. */

import path from 'node:path'
import type { CheckpointDirectory } from '../checkpoint.js'
import { isGgufName } from '../diagnosis.js'
import { invalidCheckpoint } from '../invalid.js'
import type { OpenFiles } from '../open-files.js'
import type { Pacer } from '../pacer.js'
import type { TensorEntry } from '../safetensors.js'
import { TensorNames } from '../tensor-names.js'
import { ggufConfig } from './config.js'
import { type GgufHeader, readGgufHeader } from './header.js'
import { MetadataReader } from './metadata-reader.js'
import { DECISIVE_BIAS, DECISIVE_TENSOR, ggufNaming } from './names.js'

/** `model-00001-of-00003.gguf`. */
const SHARD_NAME = /^(.*)-(\d{5})-of-(\d{5})\.gguf$/

/** Both numbers of a shard are of 16 bits. */
const MAX_SHARDS = 65_535

interface Tensor extends TensorEntry {
  readonly file: string
}

/** What the keys of a shard say. */
interface Split {
  /** From 0. */
  no: number
  count: number
  /** Tensors of all shards. */
  numTensors: number | undefined
}

function splitOf({ metadata }: GgufHeader, file: string): Split | undefined {
  const split = new MetadataReader(metadata, file).below('split')
  const count = split.integer('count', 0, MAX_SHARDS)
  if (!count) return undefined
  return {
    no: split.integer('no', 0, count - 1) ?? split.missing('no', 'the number of the shard'),
    count,
    numTensors: split.integer('tensors.count', 0, Number.MAX_SAFE_INTEGER),
  }
}

const readHeader = (files: OpenFiles, file: string, pacer: Pacer, hint?: string): Promise<GgufHeader> =>
  files.use(file, pacer, (handle, bytes) => readGgufHeader(handle, bytes, file, pacer), hint)

/** The paths of all shards: those that the first one's name gives, in its own directory. */
function shardPaths(file: string, { no, count }: Split): string[] {
  const matched = SHARD_NAME.exec(path.basename(file))
  const nameOf = (index: number) =>
    path.join(
      path.dirname(file),
      `${matched?.[1]}-${String(index + 1).padStart(5, '0')}-of-${String(count).padStart(5, '0')}.gguf`,
    )
  if (!matched || Number(matched[3]) !== count || Number(matched[2]) !== no + 1) {
    throw invalidCheckpoint(
      file,
      `is shard ${no + 1} of ${count}, which its name does not say: the others are found by names as ${path.basename(nameOf(0).replace('undefined', 'model'))}; rename the files`,
    )
  }
  if (no !== 0) {
    throw invalidCheckpoint(file, `is shard ${no + 1} of ${count}: give the first one, ${nameOf(0)}`)
  }
  return Array.from({ length: count }, (_, index) => nameOf(index))
}

/** The tensors of all shards. */
async function collect(
  files: OpenFiles,
  file: string,
  first: GgufHeader,
  pacer: Pacer,
): Promise<Map<string, Tensor>> {
  const tensors = new Map<string, Tensor>()
  const add = (header: GgufHeader, shard: string) => {
    for (const [name, entry] of header.tensors) {
      if (tensors.has(name))
        throw invalidCheckpoint(shard, `tensor '${name}' is in ${tensors.get(name)!.file} too`, {
          tensor: name,
        })
      tensors.set(name, { ...entry, file: shard })
    }
  }
  add(first, file)
  const split = splitOf(first, file)
  if (!split) return tensors
  for (const [index, shard] of shardPaths(file, split).entries()) {
    if (index === 0) continue
    const hint = `; it is shard ${index + 1} of ${split.count}: the download is not complete, fetch that file too`
    const header = await readHeader(files, shard, pacer, hint)
    const other = splitOf(header, shard)
    if (other?.no !== index || other.count !== split.count || other.numTensors !== split.numTensors) {
      throw invalidCheckpoint(
        shard,
        `does not belong to ${file}: by its keys it is ${other ? `shard ${other.no + 1} of ${other.count} with ${other.numTensors} tensors` : 'no shard'}, ` +
          `where shard ${index + 1} of ${split.count} with ${split.numTensors} is expected`,
      )
    }
    add(header, shard)
  }
  if (split.numTensors !== undefined && split.numTensors !== tensors.size) {
    throw invalidCheckpoint(
      file,
      `its shards have ${tensors.size} tensors, where split.tensors.count is ${split.numTensors}`,
    )
  }
  return tensors
}

/**
 * Opens a GGUF file by its header; of a split model the first shard, with the headers of all others.
 * @param file an absolute path
 * @throws {@link MoeError} ERR_MOE_IO, ERR_MOE_INVALID_CHECKPOINT, ERR_MOE_INVALID_CONFIG, ERR_MOE_UNSUPPORTED_FAMILY,
 * ERR_MOE_UNSUPPORTED_FORMAT, ERR_MOE_NOT_SPARSE; or rejects with the pacer's `signal.reason`
 */
export async function openGguf(files: OpenFiles, file: string, pacer: Pacer): Promise<CheckpointDirectory> {
  const first = await readHeader(files, file, pacer)
  const tensors = await collect(files, file, first, pacer)
  const { config, notices } = ggufConfig(first.metadata, tensors.keys(), file)
  return {
    directory: file,
    configFile: file,
    config,
    notices,
    container: { naming: ggufNaming, decisive: DECISIVE_TENSOR, decisiveBias: DECISIVE_BIAS },
    names: await TensorNames.of(tensors.keys(), pacer),
    files,
    has: name => tensors.has(name),
    // All headers are read.
    prepare: async () => {},
    get: name => tensors.get(name),
  }
}

/** The one model that a directory without config.json holds in GGUF: a file, or the first shard of a split one; undefined: none, or several. */
export function onlyModel(names: readonly string[]): string | undefined {
  const models = names
    .filter(name => isGgufName(name) && !/mmproj/i.test(name))
    .filter(name => {
      const shard = SHARD_NAME.exec(name)
      return !shard || Number(shard[2]) === 1
    })
  return models.length === 1 ? models[0] : undefined
}
