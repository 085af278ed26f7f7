/** What a model counts over its layers: the figures of `model.stats()`. */

import type { CacheStats } from '../block/cache-options.js'
import type { LayerStats } from './layer-stats.js'
import type { MoeLayer } from './moe-layer.js'

/** What `model.stats()` gives: sums over the layers, and the figures of each. */
export interface ModelStats
  extends Pick<
    LayerStats,
    | 'calls'
    | 'failedCalls'
    | 'rejectedCalls'
    | 'batches'
    | 'tokens'
    | 'waitingSeconds'
    | 'runningSeconds'
    | 'flops'
    | 'denseFlops'
    | 'hostBytes'
    | 'deviceBytes'
    | 'queueDepth'
    | 'queuedTokens'
  > {
  /** Scratch of forwards, of each device once. */
  workspaceBytes: number
  /** What the caches of the layers have counted, together; null: all experts lie in memory. */
  cache: Pick<CacheStats, (typeof CACHE_SUMMED)[number]> | null
  /** By decoder layer. */
  layers: Record<number, LayerStats>
}

const SUMMED = [
  ...['calls', 'failedCalls', 'rejectedCalls', 'batches', 'tokens', 'waitingSeconds', 'runningSeconds'],
  ...['flops', 'denseFlops', 'hostBytes', 'deviceBytes', 'queueDepth', 'queuedTokens'],
] as (keyof Omit<ModelStats, 'workspaceBytes' | 'cache' | 'layers'>)[]

const CACHE_SUMMED = [
  ...(['hits', 'misses', 'hostHits', 'evictions', 'bytesRead', 'waitNs'] as const),
  ...(['prefetched', 'prefetchUsed', 'prefetchWasted', 'prefetchDropped', 'bytesPrefetched'] as const),
] as const

export function modelStats(layers: ReadonlyMap<number, MoeLayer>): ModelStats {
  const stats = new Map([...layers].map(([index, layer]) => [index, layer.stats()] as const))
  const sum = (name: (typeof SUMMED)[number]) =>
    [...stats.values()].reduce((total, ofLayer) => total + ofLayer[name], 0)
  const workspaces = new Map<string, number>()
  for (const [index, { device }] of layers) {
    const { workspaceBytes } = stats.get(index)!
    workspaces.set(device, Math.max(workspaces.get(device) ?? 0, workspaceBytes))
  }
  return {
    ...(Object.fromEntries(SUMMED.map(name => [name, sum(name)])) as Omit<
      ModelStats,
      'workspaceBytes' | 'cache' | 'layers'
    >),
    workspaceBytes: [...workspaces.values()].reduce((total, bytes) => total + bytes, 0),
    cache: cacheSums([...stats.values()].flatMap(({ cache }) => cache ?? [])),
    layers: Object.fromEntries(stats),
  }
}

function cacheSums(caches: readonly CacheStats[]): ModelStats['cache'] {
  if (caches.length === 0) return null
  const sum = (name: (typeof CACHE_SUMMED)[number]) =>
    caches.reduce((total, ofLayer) => total + ofLayer[name], 0)
  return Object.fromEntries(CACHE_SUMMED.map(name => [name, sum(name)])) as ModelStats['cache']
}
