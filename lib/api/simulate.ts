/** What a smaller memory would cost, told from a recorded routing before anything is loaded. */

import { DEFAULT_READERS } from '../block/cache-options.js'
import { checkOptionKeys, invalidArgValue } from '../block/errors.js'
import {
  CACHE_POLICIES,
  CACHE_PREFETCHES,
  CACHE_SCOPES,
  type CacheCapacity,
  type CachePolicyName,
  type CachePrefetch,
  type CacheScope,
  cachePools,
  hostBlocks,
  prefetchedExperts,
} from '../block/expert-cache.js'
import { type Fields, fieldsOf } from '../block/option-fields.js'
import { Pacer } from '../checkpoint/pacer.js'
import type { SimulationRates } from '../trace/call-time.js'
import { profileOf } from '../trace/profile.js'
import { givenTrace } from '../trace/read-trace.js'
import { type Simulation, simulateTrace } from '../trace/simulate.js'
import type { Trace } from '../trace/trace.js'
import { checkSignal } from './forward-arguments.js'

/** The cache of a simulation. */
export interface SimulatedCache {
  /**
   * Memory of the experts of all layers of the trace; beside `deviceBytes` memory of the host behind a GPU, of which each layer has the same share, one
   * expert at least. One of hostBytes, deviceBytes and slots is needed.
   */
  hostBytes?: number
  /** Memory of a GPU for them, as of a cache on `cuda`. */
  deviceBytes?: number
  /** Experts of each layer that stay, instead; at least topK. */
  slots?: number
  /** Who makes room: 'lru', 'lfu', 'lfru', or nobody ('static': what the profile says stays, without one what comes first). @defaultValue 'lru' */
  policy?: CachePolicyName
  /** Slots of its own for each layer, or shared by all whose experts are of one size. @defaultValue 'layer' */
  scope?: CacheScope
  /** A trace of other text, whose most chosen experts are there before the first call. @defaultValue none: it begins empty */
  profile?: string | Trace
  /** Reads in flight, 1 to 64. @defaultValue 2 */
  readers?: number
  /** As of a cache. All that is read ahead comes in time here, and takes none. @defaultValue 'off' */
  prefetch?: CachePrefetch
  /** Bytes of experts that a call has read ahead at most, one expert at least. @defaultValue half of a token's experts, rounded up */
  prefetchBytesPerCall?: number
}

/** Options of {@link simulate}. */
export interface SimulateOptions {
  cache: SimulatedCache
  /** What the machine does in a second. @defaultValue none: counts alone */
  rates?: SimulationRates
  /** Cuts calls of more rows into calls of so many, as if the tokens had come a few at a time. @defaultValue as recorded */
  tokensPerCall?: number
  signal?: AbortSignal
}

/**
 * Runs the calls of a trace on a cache that does not exist. The engine's own policy code decides, so that hits, misses and evictions are the
 * integers that the cache of a layer counts for the same calls, policy and slots. With `prefetch` they are the same where all reads come in
 * time: between calls, or beside arithmetic.
 *
 * @param trace what {@link readTrace} gave, or where `record` wrote it
 * @returns counts in all and per layer, Belady's bound, and with `rates` the time of a call
 * @throws (as rejection) TypeError and RangeError with ERR_MOE_INVALID_ARG_*, ERR_MOE_UNKNOWN_OPTION; {@link MoeError} ERR_MOE_TRACE_INVALID,
 * ERR_MOE_IO, ERR_MOE_CACHE_TOO_SMALL, ERR_MOE_NATIVE_LOAD, ERR_MOE_OUT_OF_MEMORY; or `signal.reason`
 * @example
 * const { hitRate, belady } = await simulate('trace', { cache: { hostBytes: 8e9 } })
 */
export async function simulate(trace: string | Trace, options: SimulateOptions): Promise<Simulation> {
  const fields = fieldsOf(options, 'options', ['cache', 'rates', 'tokensPerCall', 'signal'])
  const cache = fieldsOf(fields.raw('cache'), 'cache', [
    ...['hostBytes', 'deviceBytes', 'slots', 'policy', 'scope', 'profile', 'readers'],
    ...['prefetch', 'prefetchBytesPerCall'],
  ])
  const signal = checkSignal(options.signal)
  const policy = cache.oneOf('policy', CACHE_POLICIES, 'lru')
  const scope = cache.oneOf('scope', CACHE_SCOPES, 'layer')
  const capacity = checkCapacity(cache)
  const readers = cache.integer('readers', 1, 64, DEFAULT_READERS)
  const prefetch = cache.oneOf('prefetch', CACHE_PREFETCHES, 'off')
  const onDevice = cache.has('deviceBytes')
  if (onDevice && prefetch !== 'off')
    throw invalidArgValue(
      'cache.prefetch',
      "'off' beside deviceBytes: a GPU's experts are not read ahead",
      prefetch,
    )
  const behind =
    onDevice && cache.has('hostBytes') ? cache.integer('hostBytes', 1, Number.MAX_SAFE_INTEGER) : null
  const prefetchBytes = cache.has('prefetchBytesPerCall')
    ? cache.integer('prefetchBytesPerCall', 1, Number.MAX_SAFE_INTEGER)
    : undefined
  const tokensPerCall = fields.has('tokensPerCall') ? fields.integer('tokensPerCall', 1, 2 ** 31 - 1) : 0
  const rates = fields.has('rates') ? checkRates(options.rates!, onDevice) : null
  signal?.throwIfAborted()
  const recorded = await givenTrace(trace, 'trace', signal)
  const profile = cache.has('profile')
    ? profileOf(await givenTrace(options.cache.profile, 'cache.profile', signal), recorded.layers)
    : null
  const pools = cachePools(recorded.layers, capacity, scope, policy)
  const mostPrefetched =
    prefetch === 'off' ? null : recorded.layers.map(layer => prefetchedExperts(layer, prefetchBytes))
  const input = {
    ...{ policy, scope, pools, profile, readers, rates, tokensPerCall, mostPrefetched },
    hostBlocks: behind === null ? null : hostBlocks(recorded.layers, behind),
  }
  return simulateTrace(recorded, input, new Pacer(signal))
}

function checkCapacity(cache: Fields): CacheCapacity {
  const [inSlots, onDevice] = [cache.has('slots'), cache.has('deviceBytes')]
  if ((inSlots ? 1 : 0) + (onDevice || cache.has('hostBytes') ? 1 : 0) !== 1)
    throw invalidArgValue('cache', 'one of hostBytes, deviceBytes and slots', inSlots ? 'both' : 'neither')
  return inSlots
    ? { slotsPerLayer: cache.integer('slots', 1, 2 ** 31 - 1) }
    : { bytes: cache.integer(onDevice ? 'deviceBytes' : 'hostBytes', 1, Number.MAX_SAFE_INTEGER) }
}

function checkRates(rates: SimulationRates, onDevice: boolean): SimulationRates {
  checkOptionKeys(rates, ['disk', 'readSeconds', 'copy', 'expert', 'callSeconds'], 'rates')
  const fields = fieldsOf(rates, 'rates')
  if (fields.has('copy') && !onDevice)
    throw invalidArgValue('rates.copy', 'none without cache.deviceBytes: nothing is copied', rates.copy)
  return {
    disk: fields.positive('disk'),
    readSeconds: fields.nonNegative('readSeconds', 0),
    copy: fields.has('copy') ? fields.positive('copy') : undefined,
    expert: typeof rates.expert === 'function' ? rates.expert : fields.positive('expert'),
    callSeconds: fields.nonNegative('callSeconds', 0),
  }
}
