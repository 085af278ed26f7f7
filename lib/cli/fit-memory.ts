/** The largest cache with which the layers of a checkpoint fit into so many bytes. */

import type { Checkpoint } from '../api/checkpoint.js'
import type { ModelOptions } from '../api/model-options.js'
import type { ModelPlan } from '../api/model-plan.js'
import { MoeError } from '../block/errors.js'
import { type CachedLayer, leastCacheBytes } from '../block/expert-cache.js'

/** How layers run in a memory. */
export interface MemoryFit {
  memoryBytes: number
  /** With all experts in memory. */
  whole: ModelPlan
  /** With a cache that takes what the rest leaves of the memory; null: all experts fit. */
  cached: { hostBytes: number; plan: ModelPlan } | null
  /** What a cache would divide, layer by layer. */
  layers: readonly CachedLayer[]
}

/**
 * @param options of `plan`, without a cache
 * @throws {@link MoeError} ERR_MOE_OUT_OF_MEMORY, with `details` {memory, neededBytes, freeBytes}, where the memory does not hold the least that the
 * layers run with
 */
export async function fitMemory(
  checkpoint: Checkpoint,
  options: Omit<ModelOptions, 'cache' | 'module' | 'config'>,
  memoryBytes: number,
): Promise<MemoryFit> {
  const whole = await checkpoint.plan(options)
  const layers = whole.layers.map(({ index, expertBytes }) => {
    const { config } = checkpoint.layers.find(layer => layer.index === index)!
    return { numExperts: config.numExperts, topK: config.topK, expertBytes }
  })
  const wholeBytes = hostBytesOf(whole)
  if (wholeBytes <= memoryBytes) return { memoryBytes, whole, cached: null, layers }

  // What is no expert takes the same beside any cache.
  const least = leastCacheBytes(layers)
  const withLeast = await checkpoint.plan({ ...options, cache: { hostBytes: least } })
  const restBytes = hostBytesOf(withLeast) - heldBytes(layers, least)
  const given = memoryBytes - restBytes
  if (given < least)
    throw new MoeError(
      'ERR_MOE_OUT_OF_MEMORY',
      `The layers do not run in ${memoryBytes} bytes: the experts of one token, and one more, of each of ${layers.length} layer(s) take ${least}, ` +
        `and what is no expert ${restBytes}. Give them ${least + restBytes}, or hold the weights in fewer bits`,
      { details: { memory: 'host', neededBytes: least + restBytes, freeBytes: memoryBytes } },
    )
  const hostBytes = wholeExperts(layers, given)
  const plan = await checkpoint.plan({ ...options, cache: { hostBytes } })
  return { memoryBytes, whole, cached: { hostBytes, plan }, layers }
}

const hostBytesOf = ({ memory }: ModelPlan): number =>
  memory.find(({ memory }) => memory === 'host')!.neededBytes

/** Bytes of the experts that the share of one layer pays for. */
const heldOf = ({ numExperts, expertBytes }: CachedLayer, share: number): number =>
  Math.min(numExperts, Math.floor(share / expertBytes)) * expertBytes

/** What caches of all layers take of `hostBytes`. */
function heldBytes(layers: readonly CachedLayer[], hostBytes: number): number {
  const share = Math.floor(hostBytes / layers.length)
  return layers.reduce((sum, layer) => sum + heldOf(layer, share), 0)
}

/** The fewest bytes that hold as many experts of each layer as `hostBytes` do. */
function wholeExperts(layers: readonly CachedLayer[], hostBytes: number): number {
  const share = Math.floor(hostBytes / layers.length)
  return layers.length * Math.max(...layers.map(layer => heldOf(layer, share)))
}
