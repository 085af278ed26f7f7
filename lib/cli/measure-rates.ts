/** What this machine does in a second, measured on one layer of a checkpoint whose experts are read in nearly every call. */

import type { CacheOptions } from '../api/cache-options.js'
import type { MoeLayer } from '../api/moe-layer.js'
import type { CachedLayer } from '../block/expert-cache.js'
import { callTime } from '../trace/call-time.js'
import { median } from './load-chart.js'
import type { CallOptions } from './measure.js'

/** Rates of `simulate`, and how they came about. */
export interface MeasuredRates {
  /** Bytes of experts, as they are held, that come from the checkpoint in a second: read, decoded and packed by all readers together. */
  disk: number
  /** Bytes of resident experts that a call of one row goes through in a second. */
  expert: number
  /** Files were read past the page cache; else the figure may be that of memory. */
  directIo: boolean
  /** Calls that were timed, and experts that were read for them. */
  calls: number
  reads: number
}

/** A call of one row. */
export interface RandomRow {
  hiddenStates: Float32Array
  options: CallOptions
}

const BUDGET_MS = 1500
const LEAST_CALLS = 12
const MOST_CALLS = 400
const MOST_ROWS = 64

interface TimedCall {
  seconds: number
  hits: number
  misses: number
}

/**
 * Loads the layer with the smallest cache that it runs with, so that most experts of a row of random numbers are missed; then with the cache that it
 * is to have, and calls it with as many rows in turn as have their experts there. One row again and again would find its weights in the processor's caches.
 *
 * @param load of the layer with a cache
 * @param rowOf a row of random numbers from a seed
 * @param readers reads in flight
 * @param hostBytes of the cache that the layer is to have
 */
export async function measureRates(
  load: (cache: CacheOptions) => Promise<MoeLayer>,
  { topK, expertBytes }: CachedLayer,
  rowOf: (seed: number) => RandomRow,
  readers: number,
  hostBytes: number,
): Promise<MeasuredRates> {
  const timed = async (layer: MoeLayer, seed: number): Promise<TimedCall> => {
    const { hiddenStates, options } = rowOf(seed)
    const before = layer.stats().cache!
    const began = performance.now()
    await layer.forward(hiddenStates, options)
    const seconds = (performance.now() - began) / 1000
    const after = layer.stats().cache!
    return { seconds, hits: after.hits - before.hits, misses: after.misses - before.misses }
  }
  const leastBytes = (topK + 1) * expertBytes
  using least = await load({ hostBytes: leastBytes, readers })
  const cold = await repeat(call => timed(least, call))
  using held = await load({ hostBytes: Math.max(leastBytes, hostBytes), readers })
  // The second call of a row finds its experts.
  const rows = Math.min(MOST_ROWS, Math.max(1, Math.floor(hostBytes / expertBytes / topK)))
  for (let row = 0; row < rows; row++) await timed(held, row)
  const hot = await repeat(call => timed(held, call % rows))
  const expertSeconds = median(hot.map(({ seconds, hits }) => seconds / hits))
  const missing = middleHalf(cold.filter(({ misses }) => misses > 0))
  return {
    disk: diskRate(missing, expertSeconds, readers, expertBytes),
    expert: expertBytes / expertSeconds,
    directIo: least.stats().cache!.directIo,
    calls: cold.length + hot.length,
    reads: cold.reduce((sum, { misses }) => sum + misses, 0),
  }
}

async function repeat(call: (seed: number) => Promise<TimedCall>): Promise<TimedCall[]> {
  const calls: TimedCall[] = []
  const end = performance.now() + BUDGET_MS
  while (calls.length < LEAST_CALLS || (calls.length < MOST_CALLS && performance.now() < end))
    calls.push(await call(calls.length))
  return calls
}

/** Without the quickest and the slowest quarter by read: what else the machine did meanwhile. */
function middleHalf(calls: readonly TimedCall[]): TimedCall[] {
  const perRead = ({ seconds, misses }: TimedCall) => seconds / misses
  const sorted = [...calls].sort((a, b) => perRead(a) - perRead(b))
  return sorted.slice(Math.floor(sorted.length / 4), Math.ceil((sorted.length * 3) / 4))
}

/** The rate with which the simulation's own times of the calls add up to what they took; it falls as the rate rises. */
function diskRate(
  calls: readonly TimedCall[],
  expertSeconds: number,
  readers: number,
  expertBytes: number,
): number {
  const measured = calls.reduce((sum, { seconds }) => sum + seconds, 0)
  const simulated = (disk: number) =>
    calls.reduce((sum, { hits, misses }) => {
      const missed = Array.from({ length: misses }, () => ({ seconds: expertSeconds, isInHost: false }))
      const time = callTime({ disk, expert: 1 }, readers, hits * expertSeconds, missed, expertBytes)
      return sum + time.seconds
    }, 0)
  let [low, high] = [Math.log(1e3), Math.log(1e13)]
  for (let step = 0; step < 60; step++) {
    const middle = (low + high) / 2
    if (simulated(Math.exp(middle)) > measured) low = middle
    else high = middle
  }
  return Math.exp(low)
}
