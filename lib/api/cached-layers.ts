/** Layers that leave experts in the checkpoint: where that can be, and how layers share what they are given. */

import type { CacheOptions } from '../block/cache-options.js'
import { MoeError } from '../block/errors.js'
import { type ChosenDevice, isHostDevice } from '../devices/device.js'

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
export function cacheShare(cache: CacheOptions | undefined, numLayers: number): CacheOptions | undefined {
  return cache && { ...cache, hostBytes: Math.floor(cache.hostBytes / numLayers) }
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
