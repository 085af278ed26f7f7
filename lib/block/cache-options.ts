/** Experts that do not all lie in memory: what a layer may be told of that, and what it says. */

import type { CachePolicyName } from './expert-cache.js'

/** Reads in flight. */
export const DEFAULT_READERS = 2

/** How a layer keeps some of its experts in memory and reads the others from the checkpoint when a call needs them. */
export interface CacheSettings {
  /**
   * Bytes of host memory for the layer's experts. All of it is taken when the layer is loaded, up to what all experts take. It must hold one
   * expert more than a token has (`topK + 1`), or all of them: else ERR_MOE_CACHE_TOO_SMALL.
   */
  hostBytes: number
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
}

/** How the experts of a layer are kept. */
export interface CacheShape {
  /** Bytes that one expert takes in memory: the largest, where they differ. */
  expertBytes: number
  /** Experts that stay in memory from call to call. */
  slots: number
  /** Places beside the slots of a 'static' cache, through which pass the experts that it does not hold; else 0. */
  ringSlots: number
  readers: number
  /** Files are read past the page cache. */
  directIo: boolean
}

/** {@link CacheShape}, and what has happened since the layer was made. A call that runs in several waves of rows counts an expert in each. */
export interface CacheStats extends CacheShape {
  /** Experts that a call needed and found in memory. */
  hits: number
  /** Experts that a call needed and had to be read. */
  misses: number
  /** Experts that left for another one. */
  evictions: number
  /** Bytes of the checkpoint that were read for calls. */
  bytesRead: number
  /** Nanoseconds that calls waited for experts. */
  waitNs: number
}
