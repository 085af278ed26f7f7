/** The calls of a trace on a cache, decided by the engine's own policy code. */

import { allocate } from '../block/allocate.js'
import type { CachePolicyName, CachePools } from '../block/expert-cache.js'
import type { Pacer } from '../checkpoint/pacer.js'
import { loadNative } from '../devices/native/addon.js'
import { fromNativeError } from '../devices/native/errors.js'
import type { Needs } from './needs.js'
import type { ProfiledExpert } from './profile.js'

/** A few milliseconds of the thread. */
const CALLS_AT_A_TIME = 1024

/** The expert was resident. */
export const IN_SLOT = 1
/** It was not, and memory of the host had it. */
export const IN_HOST = 2

/** What became of the experts that calls needed. */
export interface CacheRun {
  /** Of each need: {@link IN_SLOT}, {@link IN_HOST}, or 0 where its expert had to be read. */
  readonly hits: Uint8Array
  /** Per layer: misses that were not kept. */
  readonly passed: Float64Array
  /** Per layer: experts of it that made room for others. */
  readonly evictions: Float64Array
  /** Per layer: what became of experts that were read ahead. */
  readonly ahead: readonly { prefetched: number; prefetchUsed: number; prefetchWasted: number }[]
}

/** A cache that a trace runs on. */
export interface SimulatedShape extends CachePools {
  rule: CachePolicyName
  /** Of each layer. */
  numExperts: readonly number[]
  /** Of each layer: experts that a call of the layer before it has read ahead at most; null: nothing is read ahead. */
  mostPrefetched: readonly number[] | null
  /** Of each layer: experts that memory of the host holds behind a GPU; null: there is no such memory. */
  hostBlocks: readonly number[] | null
}

/**
 * @param warm experts of each pool that are there before the first call
 * @throws {@link MoeError} ERR_MOE_NATIVE_LOAD where there is no addon
 */
export async function runCache(
  needs: Needs,
  { rule, poolSlots, poolOf, numExperts, mostPrefetched, hostBlocks }: SimulatedShape,
  warm: readonly (readonly ProfiledExpert[])[],
  pacer: Pacer,
): Promise<CacheRun> {
  const layers = numExperts.map((count, layer) => ({ numExperts: count, pool: poolOf[layer]! }))
  const hits = allocate(Uint8Array, needs.experts.length)
  const slots = allocate(Int32Array, needs.experts.length)
  const passed = allocate(Float64Array, layers.length)
  const evictions = allocate(Float64Array, layers.length)
  try {
    const policy = loadNative().createCachePolicy({ rule, poolSlots, layers, mostPrefetched, hostBlocks })
    for (const { layer, expert } of warm.flat()) policy.warm(layer, expert)
    for (let call = 0; call < needs.numCalls; call += CALLS_AT_A_TIME) {
      const endCall = Math.min(call + CALLS_AT_A_TIME, needs.numCalls)
      const [begin, end] = [needs.offsets[call]!, needs.offsets[endCall]!]
      const evicted = allocate(Int32Array, 2 * (end - begin))
      policy.planCalls(
        needs.layers.subarray(call, endCall),
        needs.offsets.subarray(call, endCall + 1).map(offset => offset - begin),
        needs.experts.subarray(begin, end),
        slots.subarray(begin, end),
        hits.subarray(begin, end),
        evicted,
      )
      for (let i = 0; i < evicted.length; i += 2) if (evicted[i]! >= 0) evictions[evicted[i]!]!++
      for (let of = call; of < endCall; of++)
        for (let need = needs.offsets[of]!; need < needs.offsets[of + 1]!; need++)
          if (slots[need]! < 0) passed[needs.layers[of]!]!++
      if (pacer.due) await pacer.turn()
    }
    const ahead = layers.map((_, layer) => {
      const { prefetched, used, wasted, evicted } = policy.prefetchCounts(layer)
      evictions[layer]! += evicted
      return { prefetched, prefetchUsed: used, prefetchWasted: wasted }
    })
    return { hits, passed, evictions, ahead }
  } catch (error) {
    throw fromNativeError(error, 'run')
  }
}
