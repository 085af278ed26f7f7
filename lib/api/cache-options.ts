/** The option `cache` of a layer and of a model, and its checks. */

import type { CacheSettings } from '../block/cache-options.js'
import { checkOptionKeys, invalidArgType, invalidArgValue } from '../block/errors.js'
import { CACHE_POLICIES, CACHE_PREFETCHES, CACHE_SCOPES, type CacheScope } from '../block/expert-cache.js'
import { isTrace } from '../trace/read-trace.js'
import type { Trace } from '../trace/trace.js'

/** How a layer keeps some of its experts in memory and reads the others from the checkpoint when a call needs them. */
export interface CacheOptions extends CacheSettings {
  /**
   * A trace of these layers, or where `record` wrote it: the experts that most of its rows chose are read with the layer, as many as have slots. Of
   * policy 'static' they are the fixed set. @defaultValue none: slots fill as calls need experts
   */
  profile?: string | Trace
  /**
   * Of a model: 'layer', each layer has its share to itself; 'model', layers whose experts are of one size put their shares together and compete
   * for them. @defaultValue 'layer'
   */
  scope?: CacheScope
}

/** @throws TypeError and RangeError with ERR_MOE_INVALID_ARG_*, ERR_MOE_UNKNOWN_OPTION */
export function checkCacheOptions(cache: unknown): void {
  if (cache === undefined) return
  if (typeof cache !== 'object' || cache === null) throw invalidArgType('cache', 'an object', cache)
  checkOptionKeys(cache, [
    ...['hostBytes', 'deviceBytes', 'policy', 'profile', 'scope', 'readers', 'directIo'],
    ...['prefetch', 'prefetchBytesPerCall'],
  ])
  const { hostBytes, deviceBytes, policy, profile, scope, readers, directIo } = cache as CacheOptions
  if (hostBytes !== undefined || deviceBytes === undefined) checkBytes('cache.hostBytes', hostBytes)
  if (deviceBytes !== undefined) checkBytes('cache.deviceBytes', deviceBytes)
  if (policy !== undefined && !CACHE_POLICIES.includes(policy))
    throw invalidArgValue('cache.policy', "'lru', 'lfu', 'lfru' or 'static'", policy)
  if (scope !== undefined && !CACHE_SCOPES.includes(scope))
    throw invalidArgValue('cache.scope', "'layer' or 'model'", scope)
  if (profile !== undefined && typeof profile !== 'string' && !isTrace(profile))
    throw invalidArgType('cache.profile', 'the path of a trace, or what readTrace gave', profile)
  if (readers !== undefined && typeof readers !== 'number')
    throw invalidArgType('cache.readers', 'a number', readers)
  if (readers !== undefined && (!Number.isInteger(readers) || readers < 1 || readers > 64))
    throw invalidArgValue('cache.readers', 'an integer from 1 to 64', readers)
  if (directIo !== undefined && directIo !== 'auto' && directIo !== 'off')
    throw invalidArgValue('cache.directIo', "'auto' or 'off'", directIo)
  checkPrefetch(cache)
}

function checkPrefetch({ prefetch, prefetchBytesPerCall: bytes }: Partial<CacheOptions>): void {
  if (prefetch !== undefined && !CACHE_PREFETCHES.includes(prefetch))
    throw invalidArgValue('cache.prefetch', "'off' or 'affinity'", prefetch)
  if (bytes !== undefined && typeof bytes !== 'number')
    throw invalidArgType('cache.prefetchBytesPerCall', 'a number', bytes)
  if (bytes !== undefined && (!Number.isSafeInteger(bytes) || bytes < 1))
    throw invalidArgValue('cache.prefetchBytesPerCall', 'a positive integer', bytes)
}

function checkBytes(name: string, bytes: unknown): void {
  if (typeof bytes !== 'number') throw invalidArgType(name, 'a number', bytes)
  if (!Number.isSafeInteger(bytes) || bytes < 1) throw invalidArgValue(name, 'a positive integer', bytes)
}
