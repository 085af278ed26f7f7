/** A trace on a cache: what it counts, and by rates what it takes. */

import { allocate } from '../block/allocate.js'
import type { CachePolicyName, CachePools, CacheScope } from '../block/expert-cache.js'
import type { Pacer } from '../checkpoint/pacer.js'
import { beladyHits } from './belady.js'
import { type CacheRun, IN_HOST, IN_SLOT, runCache } from './cache-run.js'
import { callTime, type SimulationRates, type TimedMiss } from './call-time.js'
import { type Needs, needsOf } from './needs.js'
import { mostUsed, type Profile } from './profile.js'
import type { Trace } from './trace.js'

/** One layer of a {@link Simulation}. */
export interface LayerSimulation {
  /** Number of the decoder layer. */
  layer: number
  /** Slots that it has, or shares with the layers of its pool. */
  slots: number
  /** Experts of it that memory of the host holds behind a GPU. */
  hostSlots: number
  hits: number
  misses: number
  /** Of the misses those that the host's memory had: copied, and not read. */
  hostHits: number
  /** Misses whose experts were not kept: the call needed more experts than there are slots, or the policy is 'static'. */
  passed: number
  /** Its experts that made room for others. */
  evictions: number
  readBytes: number
  /** Experts that were read ahead; of them those that a call then needed, which are hits, and those that left before one did. */
  prefetched: number
  prefetchUsed: number
  prefetchWasted: number
}

/** What a cache does for a recorded routing. A hit is an expert that a call needed and that was resident. */
export interface Simulation {
  policy: CachePolicyName
  scope: CacheScope
  /** Calls of layers, after tokensPerCall cut them. */
  calls: number
  /** Rows of all calls. */
  rows: number
  /** Experts that stay, of all layers, and their bytes; the ring's are not among them. */
  slots: number
  cacheBytes: number
  /** Experts that memory of the host holds behind a GPU, of all layers, and their bytes; 0 without `deviceBytes`. */
  hostSlots: number
  hostCacheBytes: number
  hits: number
  misses: number
  /** Of the misses those that the host's memory had: copied, and not read. */
  hostHits: number
  passed: number
  evictions: number
  /** Hits of hits and misses; 0 without calls. */
  hitRate: number
  /** Bytes of the experts that missed and had to be read. */
  readBytes: number
  /** Experts that were read ahead, all in time; of them those that a call then needed, and those that left before one did. 0 without `prefetch`. */
  prefetched: number
  prefetchUsed: number
  prefetchWasted: number
  /** Bytes of those that were read ahead; not in readBytes. */
  prefetchedBytes: number
  /** Bytes of the experts that were there before the first call; not in readBytes. */
  warmBytes: number
  perLayer: LayerSimulation[]
  /**
   * The most hits that any policy could have with these slots that reads nothing ahead, knowing the future; begun warm where the simulation was. Of
   * readBytes the least, with the host's memory as if it were slots too.
   */
  belady: { hits: number; hitRate: number; readBytes: number }
  /** Of a call of one layer; null without rates. */
  secondsPerCall: { mean: number; p50: number; p99: number } | null
  /** What the time of all calls goes to: waiting for reads, or for copies to a GPU, or arithmetic; null without rates. */
  boundBy: 'disk' | 'copy' | 'compute' | null
}

/** What is simulated; everything is checked. */
export interface SimulationInput {
  policy: CachePolicyName
  scope: CacheScope
  pools: CachePools
  /** What a warm start or a fixed set is made of; of the same layers as the trace. */
  profile: Profile | null
  readers: number
  rates: SimulationRates | null
  tokensPerCall: number
  /** Of each layer: experts that a call of the layer before it has read ahead at most; null: nothing is read ahead. */
  mostPrefetched: readonly number[] | null
  /** Of each layer: experts that memory of the host holds behind a GPU; null: the slots are in memory of the host, or alone. */
  hostBlocks: readonly number[] | null
}

export async function simulateTrace(trace: Trace, input: SimulationInput, pacer: Pacer): Promise<Simulation> {
  const { policy, scope, pools, profile, rates, hostBlocks } = input
  const needs = await needsOf(trace, input.tokensPerCall, pacer)
  const numExperts = trace.layers.map(layer => layer.numExperts)
  const bytesOf = trace.layers.map(layer => layer.expertBytes)
  const warm = profile ? mostUsed(profile, pools) : []
  const shape = { rule: policy, ...pools, numExperts, mostPrefetched: input.mostPrefetched, hostBlocks }
  const run = await runCache(needs, shape, warm, pacer)
  const belady = await beladyHits(needs, pools, numExperts, profile !== null, pacer)
  const found = hostBlocks
    ? await beladyHits(needs, withHost(pools, hostBlocks), numExperts, profile !== null, pacer)
    : belady
  const perLayer = await countLayers(trace, input, needs, run, pacer)
  const sum = (values: ArrayLike<number>) => Array.from(values).reduce((total, value) => total + value, 0)
  const total = (field: keyof LayerSimulation) => sum(perLayer.map(layer => layer[field]))
  const [hits, misses] = [total('hits'), total('misses')]
  const share = (count: number) => (hits + misses === 0 ? 0 : count / (hits + misses))
  const bytesOfPool = (pool: number) => bytesOf[pools.poolOf.indexOf(pool)]!
  return {
    ...{ policy, scope, calls: needs.numCalls, rows: trace.numRows, slots: sum(pools.poolSlots) },
    cacheBytes: sum(pools.poolSlots.map((slots, pool) => slots * bytesOfPool(pool))),
    hostSlots: total('hostSlots'),
    hostCacheBytes: sum(perLayer.map(({ hostSlots }, i) => hostSlots * bytesOf[i]!)),
    ...{ hits, misses, hostHits: total('hostHits'), passed: total('passed'), evictions: total('evictions') },
    hitRate: share(hits),
    readBytes: total('readBytes'),
    ...{ prefetched: total('prefetched'), prefetchUsed: total('prefetchUsed') },
    prefetchWasted: total('prefetchWasted'),
    prefetchedBytes: sum(perLayer.map(({ prefetched }, i) => prefetched * bytesOf[i]!)),
    warmBytes: sum(warm.flat().map(({ layer }) => bytesOf[layer]!)),
    perLayer,
    belady: {
      ...{ hits: sum(belady), hitRate: share(sum(belady)) },
      readBytes: sum(perLayer.map((own, i) => (own.hits + own.misses - found[i]!) * bytesOf[i]!)),
    },
    ...(rates
      ? await timesOf(needs, run, bytesOf, rates, input.readers, pacer)
      : { secondsPerCall: null, boundBy: null }),
  }
}

/** The slots of each pool, and the blocks of the host behind them. No cache of both holds more. */
const withHost = ({ poolSlots, poolOf }: CachePools, hostBlocks: readonly number[]): CachePools => ({
  poolOf,
  poolSlots: poolSlots.map((slots, pool) =>
    hostBlocks.reduce((sum, blocks, layer) => sum + (poolOf[layer] === pool ? blocks : 0), slots),
  ),
})

const CALLS_AT_A_TIME = 4096

async function countLayers(
  trace: Trace,
  { pools, hostBlocks }: SimulationInput,
  needs: Needs,
  run: CacheRun,
  pacer: Pacer,
): Promise<LayerSimulation[]> {
  const perLayer = trace.layers.map(
    ({ layer }, index): LayerSimulation => ({
      ...{ layer, slots: pools.poolSlots[pools.poolOf[index]!]!, hostSlots: hostBlocks?.[index] ?? 0 },
      ...{ hits: 0, misses: 0, hostHits: 0 },
      ...{ passed: run.passed[index]!, evictions: run.evictions[index]!, readBytes: 0 },
      ...run.ahead[index]!,
    }),
  )
  for (let call = 0; call < needs.numCalls; call++) {
    const layer = perLayer[needs.layers[call]!]!
    for (let need = needs.offsets[call]!; need < needs.offsets[call + 1]!; need++)
      if (run.hits[need] === IN_SLOT) layer.hits++
      else {
        layer.misses++
        if (run.hits[need] === IN_HOST) layer.hostHits++
      }
    if (call % CALLS_AT_A_TIME === 0 && pacer.due) await pacer.turn()
  }
  for (const [index, layer] of perLayer.entries())
    layer.readBytes = (layer.misses - layer.hostHits) * trace.layers[index]!.expertBytes
  return perLayer
}

async function timesOf(
  needs: Needs,
  run: CacheRun,
  bytesOf: readonly number[],
  rates: SimulationRates,
  readers: number,
  pacer: Pacer,
): Promise<Pick<Simulation, 'secondsPerCall' | 'boundBy'>> {
  const { expert } = rates
  const secondsOf = typeof expert === 'number' ? (bytes: number) => bytes / expert : expert
  const seconds = allocate(Float64Array, needs.numCalls)
  let [wait, copyWait, compute] = [0, 0, 0]
  for (let call = 0; call < needs.numCalls; call++) {
    const bytes = bytesOf[needs.layers[call]!]!
    const missed: TimedMiss[] = []
    let hitSeconds = 0
    for (let need = needs.offsets[call]!; need < needs.offsets[call + 1]!; need++) {
      const own = secondsOf(bytes, needs.rows[need]!)
      if (run.hits[need] === IN_SLOT) hitSeconds += own
      else missed.push({ seconds: own, isInHost: run.hits[need] === IN_HOST })
    }
    const time = callTime(rates, readers, hitSeconds, missed, bytes)
    seconds[call] = time.seconds
    wait += time.waitSeconds
    copyWait += time.copyWaitSeconds
    compute += time.computeSeconds
    if (call % CALLS_AT_A_TIME === 0 && pacer.due) await pacer.turn()
  }
  if (seconds.length === 0) return { secondsPerCall: { mean: 0, p50: 0, p99: 0 }, boundBy: null }
  const mean = seconds.reduce((sum, value) => sum + value, 0) / seconds.length
  seconds.sort()
  const quantile = (share: number) =>
    seconds[Math.min(seconds.length - 1, Math.floor(share * seconds.length))]!
  return {
    secondsPerCall: { mean, p50: quantile(0.5), p99: quantile(0.99) },
    boundBy: Math.max(wait, copyWait) <= compute ? 'compute' : wait >= copyWait ? 'disk' : 'copy',
  }
}
