/** How many experts a cache of so many bytes holds, and which layers share them: the rule of the cache, of `plan` and of `simulate`. */

import { MoeError } from './errors.js'

/** Who makes room: least recently used, least often used, fewest uses for their age, or nobody (a fixed set). */
export const CACHE_POLICIES = ['lru', 'lfu', 'lfru', 'static'] as const
export type CachePolicyName = (typeof CACHE_POLICIES)[number]

/** Whether every layer has slots of its own, or layers whose experts are of one size compete for them. */
export const CACHE_SCOPES = ['layer', 'model'] as const
export type CacheScope = (typeof CACHE_SCOPES)[number]

/** Whether experts are read before a call asks for them, and how it is told which. */
export const CACHE_PREFETCHES = ['off', 'affinity'] as const
export type CachePrefetch = (typeof CACHE_PREFETCHES)[number]

/** What the rule asks of a layer. */
export interface CachedLayer {
  readonly numExperts: number
  readonly topK: number
  /** Memory of one expert: its matrices as they are held. */
  readonly expertBytes: number
  /** Whose memory its experts take, where there are several. */
  readonly device?: string
}

/** Slots in pools. */
export interface CachePools {
  /** Slots of each pool; all of a pool hold experts of one size. */
  readonly poolSlots: readonly number[]
  /** The pool of each layer. */
  readonly poolOf: readonly number[]
}

/** Most experts that pass through a ring at a time; csrc/engine/cache_policy.h has the same number. */
const MOST_RING = 4

/** Experts in memory that one token and the ring need: with fewer no layer runs. */
const leastBlocks = ({ numExperts, topK }: CachedLayer): number => Math.min(topK + 1, numExperts)
/** Of them those that stay. */
const leastSlots = ({ numExperts, topK }: CachedLayer): number => Math.min(topK, numExperts)

/** The fewest bytes that all layers together run with, each with the same share. */
export const leastCacheBytes = (layers: readonly CachedLayer[]): number =>
  layers.length * Math.max(...layers.map(layer => leastBlocks(layer) * layer.expertBytes))

/** Slots of a memory of so many experts; csrc/engine/cache_plan.cc has the same rule. */
function slotsOf(blocks: number, experts: number, topK: number, policy: CachePolicyName): number {
  if (blocks >= experts) return experts
  return policy === 'static' ? blocks - Math.min(Math.max(blocks - topK, 1), MOST_RING) : blocks
}

/**
 * Experts of a layer that a call of the layer before it has read ahead at most; csrc/engine/cache_plan.cc has the same rule.
 *
 * @param bytesPerCall undefined: half of a token's experts
 */
export const prefetchedExperts = (
  { topK, expertBytes }: CachedLayer,
  bytesPerCall: number | undefined,
): number =>
  bytesPerCall === undefined ? Math.ceil(topK / 2) : Math.max(1, Math.floor(bytesPerCall / expertBytes))

/** How large a cache is: bytes for all layers, the ring included, or experts of each that stay. */
export type CacheCapacity = { readonly bytes: number } | { readonly slotsPerLayer: number }

/** Of each layer the number of its pool: with scope 'model' layers of a device whose experts are of one size have one together. */
export function poolNumbers(
  layers: readonly Pick<CachedLayer, 'expertBytes' | 'device'>[],
  scope: CacheScope,
): number[] {
  const kinds = layers.map(({ expertBytes, device = '' }) => `${expertBytes} ${device}`)
  const distinct = [...new Set(kinds)]
  return kinds.map((kind, i) => (scope === 'layer' ? i : distinct.indexOf(kind)))
}

/**
 * Divides a cache among layers. Of bytes each layer gets the same share, which pays for whole experts of it, at most for all. With scope 'model' the layers
 * whose experts are of one size put the slots of their shares together. Where a share does not pay for all experts, 'static' sets up to four of it aside, the
 * ring through which the others pass.
 *
 * @throws {@link MoeError} ERR_MOE_CACHE_TOO_SMALL where a share of the bytes does not hold topK + 1 experts, or its slots not topK, with `details`
 * {neededBytes, cacheBytes}, or {neededSlots, slotsPerLayer}
 */
export function cachePools(
  layers: readonly CachedLayer[],
  capacity: CacheCapacity,
  scope: CacheScope,
  policy: CachePolicyName,
): CachePools {
  const poolOf = poolNumbers(layers, scope)
  const members = (pool: number) => layers.filter((_, i) => poolOf[i] === pool)
  const inSlots = 'slotsPerLayer' in capacity
  const least = inSlots ? leastSlots : leastBlocks
  const poolSlots: number[] = []
  for (let pool = 0; pool < new Set(poolOf).size; pool++) {
    const own = members(pool)
    const experts = own.reduce((sum, { numExperts }) => sum + numExperts, 0)
    // What a layer's share pays for, or of slots what all of its pool have.
    const held = inSlots
      ? capacity.slotsPerLayer * own.length
      : Math.floor(capacity.bytes / layers.length / own[0]!.expertBytes)
    if (own.some(layer => held < least(layer)))
      throw cacheTooSmall(layers, capacity, layer => members(poolOf[layers.indexOf(layer)]!).length)
    const ofShares = () =>
      own.reduce((sum, { numExperts, topK }) => sum + slotsOf(held, numExperts, topK, policy), 0)
    poolSlots.push(inSlots ? Math.min(held, experts) : ofShares())
  }
  return { poolSlots, poolOf }
}

/** @param sharing layers that share the slots of a layer, itself included */
function cacheTooSmall(
  layers: readonly CachedLayer[],
  capacity: CacheCapacity,
  sharing: (layer: CachedLayer) => number,
): MoeError {
  const inSlots = 'slotsPerLayer' in capacity
  const need = inSlots
    ? Math.max(...layers.map(layer => Math.ceil(leastSlots(layer) / sharing(layer))))
    : leastCacheBytes(layers)
  const have = inSlots ? capacity.slotsPerLayer : capacity.bytes
  return new MoeError(
    'ERR_MOE_CACHE_TOO_SMALL',
    `A cache of ${have} ${inSlots ? 'experts a layer' : 'bytes'} for ${layers.length} layer(s) does not hold the experts of one token in each: give it ${need}, or load fewer layers`,
    {
      details: inSlots ? { neededSlots: need, slotsPerLayer: have } : { neededBytes: need, cacheBytes: have },
    },
  )
}

/**
 * Experts of each layer that memory of the host holds behind a GPU: its share pays for whole experts, at most for all. csrc/engine/host_tier.cc has the
 * same rule.
 *
 * @throws {@link MoeError} ERR_MOE_CACHE_TOO_SMALL where a share does not hold one, with `details` {neededBytes, cacheBytes}
 */
export function hostBlocks(layers: readonly CachedLayer[], hostBytes: number): number[] {
  const neededBytes = layers.length * Math.max(...layers.map(({ expertBytes }) => expertBytes))
  if (hostBytes < neededBytes)
    throw new MoeError(
      'ERR_MOE_CACHE_TOO_SMALL',
      `The cache's ${hostBytes} bytes of the host for ${layers.length} layer(s) do not hold an expert of each: give it ${neededBytes}, or none`,
      { details: { neededBytes, cacheBytes: hostBytes } },
    )
  const share = hostBytes / layers.length
  return layers.map(({ numExperts, expertBytes }) => Math.min(numExperts, Math.floor(share / expertBytes)))
}
