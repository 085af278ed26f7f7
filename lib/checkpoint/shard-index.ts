/** model.safetensors.index.json: which tensor is in which shard. */

import { DAMAGED, invalidCheckpoint, jsonHint } from './invalid.js'
import { JsonScanError, JsonScanner, quoted } from './json-scanner.js'
import type { Pacer } from './pacer.js'

/** Largest index. The longest published one has 30 MiB. */
export const MAX_INDEX_BYTES = 256 * 1024 * 1024

/** Most tensors of a checkpoint: five times those of the largest published models. */
export const MAX_INDEX_TENSORS = 1_048_576

/** Which tensor is where: the shard of each, and the tensors of each shard. */
export interface ShardIndex {
  /** Tensor name → shard file name. */
  readonly shardOf: ReadonlyMap<string, string>
  /** Shard file name → its tensors. */
  readonly tensorsOf: ReadonlyMap<string, readonly string[]>
}

/** The index of a checkpoint in one file. */
export function singleFile(file: string, names: Iterable<string>): ShardIndex {
  const tensors = [...names]
  return {
    shardOf: new Map(tensors.map(name => [name, file])),
    tensorsOf: new Map([[file, tensors]]),
  }
}

/**
 * Parses an index. Shard names must be plain names, so that no shard lies outside the directory.
 * @throws {@link MoeError} ERR_MOE_INVALID_CHECKPOINT
 */
export async function parseIndex(
  text: string,
  file: string,
  pacer: Pacer,
  maxTensors = MAX_INDEX_TENSORS,
): Promise<ShardIndex> {
  let shardOf: Map<string, string> | undefined
  const tensorsOf = new Map<string, string[]>()
  const scanner = new JsonScanner(text)
  try {
    const seen = new Set<string>()
    for (const key of scanner.keys()) {
      if (seen.has(key)) scanner.fail(`duplicate key ${quoted(key)}`)
      seen.add(key)
      if (key !== 'weight_map') {
        scanner.skipValue()
        continue
      }
      shardOf = new Map()
      for (const name of scanner.keys(maxTensors)) {
        if (shardOf.has(name)) scanner.fail(`duplicate tensor name ${quoted(name)}`)
        const shard = scanner.string()
        shardOf.set(name, shard)
        const others = tensorsOf.get(shard)
        if (others) others.push(name)
        else if (isPlainFileName(shard)) tensorsOf.set(shard, [name])
        else {
          throw invalidCheckpoint(file, `shard ${quoted(shard)} is not a plain file name`, { tensor: name })
        }
        if (pacer.due) await pacer.turn()
      }
    }
    scanner.end()
  } catch (error) {
    if (!(error instanceof JsonScanError)) throw error
    throw invalidCheckpoint(file, `malformed index: ${error.message}${jsonHint(text)}`, {
      offset: error.position,
    })
  }
  if (!shardOf) throw invalidCheckpoint(file, `the index has no weight_map; ${DAMAGED}`)
  return { shardOf, tensorsOf }
}

function isPlainFileName(name: string): boolean {
  return name.endsWith('.safetensors') && !/[/\\:\0]/.test(name) && !name.startsWith('.')
}
