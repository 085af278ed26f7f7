/** How many experts a cache of so many bytes holds, and which layers share them: the rule of the cache, of `plan` and of `simulate`. */

import { MoeError } from './errors.js'

/** Who makes room: least recently used, least often used, fewest uses for their age, or nobody (a fixed set). */
export const CACHE_POLICIES = ['lru', 'lfu', 'lfru', 'static'] as const
export type CachePolicyName = (typeof CACHE_POLICIES)[number]

/** Whether every layer has slots of its own, or layers whose experts are of one size compete for them. */
export const CACHE_SCOPES = ['layer', 'model'] as const
export type CacheScope = (typeof CACHE_SCOPES)[number]

/** What the rule asks of a layer. */
export interface CachedLayer {
  readonly numExperts: number
  readonly topK: number
  /** Memory of one expert: its matrices as they are held. */
  readonly expertBytes: number
}

/** Slots in pools. */
export interface CachePools {
  /** Slots of each pool; all of a pool hold experts of one size. */
  readonly poolSlots: readonly number[]
  /** The pool of each layer. */
  readonly poolOf: readonly number[]
}

/** Fewer do not hold what one token needs and one expert more. */
const leastSlots = ({ numExperts, topK }: CachedLayer): number => Math.min(topK + 1, numExperts)

/** How large a cache is: bytes for all layers, or experts for each. */
export type CacheCapacity = { readonly bytes: number } | { readonly slotsPerLayer: number }

/**
 * Divides a cache among layers. Of bytes each layer gets the same share, which pays for whole experts of it. With scope 'model' the layers
 * whose experts are of one size put their shares together. A pool has at most a slot for each of its experts.
 *
 * @throws {@link MoeError} ERR_MOE_CACHE_TOO_SMALL where a pool cannot hold topK + 1 experts, with `details` {neededBytes, cacheBytes}, or
 * {neededSlots, slotsPerLayer}
 */
export function cachePools(
  layers: readonly CachedLayer[],
  capacity: CacheCapacity,
  scope: CacheScope,
): CachePools {
  const sizes = [...new Set(layers.map(layer => layer.expertBytes))]
  const poolOf = layers.map((layer, i) => (scope === 'layer' ? i : sizes.indexOf(layer.expertBytes)))
  const members = (pool: number) => layers.filter((_, i) => poolOf[i] === pool)
  const poolSlots = Array.from({ length: scope === 'layer' ? layers.length : sizes.length }, (_, pool) => {
    const [{ expertBytes }, count] = [members(pool)[0]!, members(pool).length]
    const experts = members(pool).reduce((sum, { numExperts }) => sum + numExperts, 0)
    const slots =
      'bytes' in capacity
        ? Math.floor((capacity.bytes * count) / layers.length / expertBytes)
        : capacity.slotsPerLayer * count
    return Math.min(slots, experts)
  })
  const isTooSmall = layers.some((layer, i) => poolSlots[poolOf[i]!]! < leastSlots(layer))
  if (isTooSmall)
    throw cacheTooSmall(layers, capacity, layer => members(poolOf[layers.indexOf(layer)]!).length)
  return { poolSlots, poolOf }
}

/** @param sharing layers that share the slots of a layer, itself included */
function cacheTooSmall(
  layers: readonly CachedLayer[],
  capacity: CacheCapacity,
  sharing: (layer: CachedLayer) => number,
): MoeError {
  const needed = (ofLayer: (layer: CachedLayer) => number) =>
    Math.max(...layers.map(layer => Math.ceil(ofLayer(layer) / sharing(layer))))
  const inSlots = 'slotsPerLayer' in capacity
  const unit = inSlots ? 'experts a layer' : 'bytes'
  const have = inSlots ? capacity.slotsPerLayer : capacity.bytes
  const need = needed(layer => leastSlots(layer) * (inSlots ? 1 : layer.expertBytes * layers.length))
  const details = inSlots
    ? { neededSlots: need, slotsPerLayer: have }
    : { neededBytes: need, cacheBytes: have }
  return new MoeError(
    'ERR_MOE_CACHE_TOO_SMALL',
    `A cache of ${have} ${unit} for ${layers.length} layer(s) does not hold topK + 1 experts of each: give it ${need}, or load fewer layers`,
    { details },
  )
}
