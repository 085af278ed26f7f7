/**
 * The most hits that any cache of so many slots can have, knowing the future (Belady's MIN; here a need that is not kept is allowed). Between
 * two uses an expert is kept or it is not, keeping all of them at a time must fit, and each that is kept is a hit: dropping whatever is used
 * again the latest when too many are held is best.
 */

import { allocate } from '../block/allocate.js'
import type { CachePools } from '../block/expert-cache.js'
import type { Pacer } from '../checkpoint/pacer.js'
import { LatestFirst } from './latest-first.js'
import type { Needs } from './needs.js'

const CALLS_AT_A_TIME = 1024

/**
 * @param pools which slots the layers have
 * @param numExperts of each layer
 * @param isWarm the cache may begin with any experts in it, instead of empty
 * @returns hits per layer
 */
export async function beladyHits(
  needs: Needs,
  pools: CachePools,
  numExperts: readonly number[],
  isWarm: boolean,
  pacer: Pacer,
): Promise<Float64Array> {
  // Experts are numbered through within their pool, and through all pools.
  const sizes = pools.poolSlots.map(() => 0)
  const inPool = numExperts.map((count, layer) => {
    const pool = pools.poolOf[layer]!
    sizes[pool]! += count
    return sizes[pool]! - count
  })
  const poolBegin = sizes.map((_, pool) => sizes.slice(0, pool).reduce((sum, size) => sum + size, 0))
  const total = numExperts.reduce((sum, count) => sum + count, 0)
  const begin = inPool.map((first, layer) => poolBegin[pools.poolOf[layer]!]! + first)
  const keyOf = (call: number, need: number) => begin[needs.layers[call]!]! + needs.experts[need]!
  // The call that needs the same expert next, numCalls where none does.
  const next = allocate(Int32Array, needs.experts.length)
  const soonest = allocate(Int32Array, total).fill(needs.numCalls)
  for (let call = needs.numCalls - 1; call >= 0; call--) {
    for (let need = needs.offsets[call]!; need < needs.offsets[call + 1]!; need++) {
      next[need] = soonest[keyOf(call, need)]!
      soonest[keyOf(call, need)] = call
    }
    if (call % CALLS_AT_A_TIME === 0 && pacer.due) await pacer.turn()
  }

  const held = sizes.map(size => new LatestFirst(size))
  if (isWarm)
    for (const [layer, pool] of pools.poolOf.entries())
      for (let expert = 0; expert < numExperts[layer]!; expert++)
        held[pool]!.set(inPool[layer]! + expert, soonest[begin[layer]! + expert]!)
  for (const [pool, slots] of pools.poolSlots.entries()) held[pool]!.shrink(slots)

  const hits = allocate(Float64Array, numExperts.length)
  for (let call = 0; call < needs.numCalls; call++) {
    const layer = needs.layers[call]!
    const pool = held[pools.poolOf[layer]!]!
    for (let need = needs.offsets[call]!; need < needs.offsets[call + 1]!; need++) {
      const key = inPool[layer]! + needs.experts[need]!
      if (pool.has(key)) hits[layer]!++
      pool.set(key, next[need]!)
    }
    pool.shrink(pools.poolSlots[pools.poolOf[layer]!]!)
    if (call % CALLS_AT_A_TIME === 0 && pacer.due) await pacer.turn()
  }
  return hits
}
