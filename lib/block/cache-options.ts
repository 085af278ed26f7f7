/** Experts that do not all lie in memory: what a layer may be told of that, and what it says. */

import type { CachePolicyName, CachePrefetch } from './expert-cache.js'

/** Reads in flight. */
export const DEFAULT_READERS = 2

/** How a layer keeps some of its experts in memory and reads the others from the checkpoint when a call needs them. */
export interface CacheSettings {
  /**
   * Bytes of host memory for the layer's experts. All of it is taken when the layer is loaded, up to what all experts take.
   *
   * On `cpu` experts are computed there: it must hold one more than a token has (`topK + 1`), or all of them, else ERR_MOE_CACHE_TOO_SMALL. On
   * `cuda` it is page-locked memory for experts that `deviceBytes` has no room for, at least one, copied from there and not read again. @defaultValue
   * none on `cuda`
   */
  hostBytes?: number
  /**
   * On `cuda`, where it is needed: bytes of the GPU's memory for the layer's experts, with the rule that `hostBytes` has on `cpu`. Elsewhere
   * ERR_MOE_UNSUPPORTED_OPTION.
   */
  deviceBytes?: number
  /**
   * - 'lru': the expert leaves that was used longest ago
   * - 'lfu': the one that was used least often
   * - 'lfru': the one with the fewest uses for the time since its last
   * - 'static': nobody; those that come first stay
   *
   * @defaultValue 'lru'
   */
  policy?: CachePolicyName
  /** Threads that read, shared by the layers of a device; 1 to 64. @defaultValue 2 */
  readers?: number
  /**
   * - 'auto': past the system's page cache where the file system can, so that experts do not lie in memory twice; else through it, and
   *   forgotten there
   * - 'off': through the page cache, where what was read may stay
   *
   * @defaultValue 'auto'
   */
  directIo?: 'auto' | 'off'
  /**
   * Of a model: whether readers that have nothing else to do bring experts before a call asks for them. No result depends on it.
   * - 'affinity': those of the next layer that were needed most often after the experts that this layer has just needed. They take the places
   *   of the experts of their layer that are the least expected, and of none that its last call needed. A call that reads comes first.
   * - 'off': experts are read when a call needs them
   *
   * @defaultValue 'off'
   */
  prefetch?: CachePrefetch
  /** Bytes of experts, as they lie in memory, that a call has read ahead at most; one expert at least. @defaultValue half of a token's experts, rounded up */
  prefetchBytesPerCall?: number
}

/** How the experts of a layer are kept. */
export interface CacheShape {
  /** Bytes that one expert takes in memory: the largest, where they differ. */
  expertBytes: number
  /** Experts that stay in the device's memory from call to call. */
  slots: number
  /** Places beside the slots of a 'static' cache, through which pass the experts that it does not hold; else 0. */
  ringSlots: number
  /** Experts that the host's memory holds for a GPU; 0 on `cpu`. */
  hostSlots: number
  readers: number
  /** Experts that a call of the layer before has read ahead at most; 0: none. */
  prefetchExperts: number
  /** Files are read past the page cache. */
  directIo: boolean
}

/** {@link CacheShape}, and what has happened since the layer was made. A call that runs in several waves of rows counts an expert in each. */
export interface CacheStats extends CacheShape {
  /** Experts that a call needed and found in the device's memory. */
  hits: number
  /** Experts that a call needed and had to be read, or copied from the host's memory. */
  misses: number
  /** Of the misses those that were copied: the host's memory had them. */
  hostHits: number
  /** Experts that left for another one. */
  evictions: number
  /** Bytes of the checkpoint that were read for calls that waited for them. */
  bytesRead: number
  /** Nanoseconds that calls waited for experts. */
  waitNs: number
  /** Experts that were given a place to be read ahead, as of the layer's last call. */
  prefetched: number
  /** Of them, those that a call then needed: each is one of the hits. */
  prefetchUsed: number
  /** Those that left before a call needed them. */
  prefetchWasted: number
  /** Those whose reads were given up, because a call came first or they failed. */
  prefetchDropped: number
  /** Bytes of the checkpoint that were read ahead; not in bytesRead. */
  bytesPrefetched: number
}
