/** Layers that leave experts in the checkpoint: where that can be, and how layers share what they are given. */

import type { CacheSettings } from '../block/cache-options.js'
import { MoeError } from '../block/errors.js'
import { type CachedLayer, cachePools } from '../block/expert-cache.js'
import { type ChosenDevice, isHostDevice } from '../devices/device.js'
import { mostUsed, profileOf } from '../trace/profile.js'
import { givenTrace } from '../trace/read-trace.js'
import type { CacheOptions } from './cache-options.js'

/** @throws {@link MoeError} ERR_MOE_UNSUPPORTED_OPTION where the device keeps all experts in its memory */
export function checkCacheDevice({ id, addon }: ChosenDevice): void {
  if (addon && isHostDevice(id)) return
  const instead = addon
    ? "load it on 'cpu', or leave the option out"
    : "build the native addon ('npx sparse-experts doctor' says what is missing) and load it on 'cpu', or leave the option out"
  throw new MoeError(
    'ERR_MOE_UNSUPPORTED_OPTION',
    `The option cache has no effect on ${id}, where every expert lies in memory: ${instead}`,
    { details: { option: 'cache', device: id } },
  )
}

/** What each of `numLayers` layers gets of a cache: the same share of its bytes. */
export function cacheShare(cache: CacheOptions | undefined, numLayers: number): CacheSettings | undefined {
  if (!cache) return undefined
  const { profile: _, scope: __, ...settings } = cache
  return { ...settings, hostBytes: Math.floor(cache.hostBytes / numLayers) }
}

/**
 * The experts of each layer that the profile of a cache has loaded with it, those first that most rows chose; undefined without a profile.
 *
 * @throws (as rejection) what `readTrace` rejects with; RangeError ERR_MOE_INVALID_ARG_VALUE where the profile has not all of the layers
 */
export async function warmExperts(
  { profile, hostBytes, policy = 'lru', scope = 'layer' }: CacheOptions,
  layers: readonly (CachedLayer & { layer: number })[],
  signal: AbortSignal | undefined,
): Promise<(Int32Array | undefined)[]> {
  if (profile === undefined) return []
  const recorded = profileOf(await givenTrace(profile, 'cache.profile', signal), layers)
  const used = mostUsed(recorded, cachePools(layers, { bytes: hostBytes }, scope, policy)).flat()
  return layers.map((_, index) =>
    Int32Array.from(used.filter(({ layer }) => layer === index).map(({ expert }) => expert)),
  )
}

/** An error of one layer's share in the words of whoever gave the whole. Other errors pass unchanged. */
export function ofWholeCache(error: unknown, layer: number, numLayers: number, cacheBytes: number): unknown {
  if (!(error instanceof MoeError) || error.code !== 'ERR_MOE_CACHE_TOO_SMALL') return error
  const neededBytes = Number(error.details?.neededBytes) * numLayers
  return new MoeError(
    'ERR_MOE_CACHE_TOO_SMALL',
    `A cache of ${cacheBytes} bytes for ${numLayers} layers does not hold the experts of one token, and one more, of layer ${layer}: ` +
      `give it ${neededBytes}, or load fewer \`layers\``,
    { cause: error, details: { neededBytes, cacheBytes, layer } },
  )
}
