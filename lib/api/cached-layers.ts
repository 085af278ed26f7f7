/** Layers that leave experts in the checkpoint: where that can be, and how layers share what they are given. */

import type { CacheSettings } from '../block/cache-options.js'
import { MoeError } from '../block/errors.js'
import { type CachedLayer, cachePools } from '../block/expert-cache.js'
import { type ChosenDevice, isHostDevice } from '../devices/device.js'
import { mostUsed, profileOf } from '../trace/profile.js'
import { givenTrace } from '../trace/read-trace.js'
import type { CacheOptions } from './cache-options.js'

/**
 * @throws {@link MoeError} ERR_MOE_UNSUPPORTED_OPTION where the device keeps all experts in its memory, or where the memory that it was given is not its
 * own
 */
export function checkCacheDevice(
  { id, addon }: ChosenDevice,
  { hostBytes, deviceBytes, prefetch }: CacheOptions,
): void {
  const unsupported = (option: string, message: string) =>
    new MoeError('ERR_MOE_UNSUPPORTED_OPTION', message, { details: { option, device: id } })
  if (!addon)
    throw unsupported(
      'cache',
      `The option cache has no effect on ${id}, where every expert lies in memory: build the native addon ('npx sparse-experts doctor' says what is missing) and load it on 'cpu', or leave the option out`,
    )
  if (isHostDevice(id) && (deviceBytes !== undefined || hostBytes === undefined))
    throw unsupported(
      'cache.deviceBytes',
      `The experts of a layer on ${id} lie in the host's memory: give the cache hostBytes alone`,
    )
  if (!isHostDevice(id) && deviceBytes === undefined)
    throw unsupported(
      'cache.hostBytes',
      `The experts of a layer on ${id} are computed in its own memory: give the cache deviceBytes, with hostBytes for what has no room there`,
    )
  if (!isHostDevice(id) && prefetch !== undefined && prefetch !== 'off')
    throw unsupported(
      'cache.prefetch',
      `Experts of a layer on ${id} are not read ahead: leave the option out`,
    )
}

/** What a cache has for experts that are computed there: memory of the device. */
export const slotBytes = ({
  hostBytes,
  deviceBytes,
}: Pick<CacheSettings, 'hostBytes' | 'deviceBytes'>): number => deviceBytes ?? hostBytes ?? 0

/** Too few bytes stay a cache that is too small: none would be another option. */
const shareOf = (bytes: number, numLayers: number) => Math.max(1, Math.floor(bytes / numLayers))

/** What each of `numLayers` layers gets of a cache: the same share of its bytes. */
export function cacheShare(cache: CacheOptions | undefined, numLayers: number): CacheSettings | undefined {
  if (!cache) return undefined
  const { profile: _, scope: __, hostBytes, deviceBytes, ...settings } = cache
  return {
    ...settings,
    ...(hostBytes !== undefined && { hostBytes: shareOf(hostBytes, numLayers) }),
    ...(deviceBytes !== undefined && { deviceBytes: shareOf(deviceBytes, numLayers) }),
  }
}

/**
 * The experts of each layer that the profile of a cache has loaded with it, those first that most rows chose; undefined without a profile.
 *
 * @throws (as rejection) what `readTrace` rejects with; RangeError ERR_MOE_INVALID_ARG_VALUE where the profile has not all of the layers
 */
export async function warmExperts(
  cache: CacheOptions,
  layers: readonly (CachedLayer & { layer: number })[],
  signal: AbortSignal | undefined,
): Promise<(Int32Array | undefined)[]> {
  const { profile, policy = 'lru', scope = 'layer' } = cache
  if (profile === undefined) return []
  const recorded = profileOf(await givenTrace(profile, 'cache.profile', signal), layers)
  const used = mostUsed(recorded, cachePools(layers, { bytes: slotBytes(cache) }, scope, policy)).flat()
  return layers.map((_, index) =>
    Int32Array.from(used.filter(({ layer }) => layer === index).map(({ expert }) => expert)),
  )
}

/** An error of one layer's share in the words of whoever gave the whole. Other errors pass unchanged. */
export function ofWholeCache(
  error: unknown,
  layer: number,
  numLayers: number,
  cache: Pick<CacheSettings, 'hostBytes' | 'deviceBytes'>,
): unknown {
  if (!(error instanceof MoeError) || error.code !== 'ERR_MOE_CACHE_TOO_SMALL') return error
  const neededBytes = Number(error.details?.neededBytes) * numLayers
  const slots = slotBytes(cache)
  // Memory of the host behind a GPU is looked at once the GPU's is enough, so it is the smaller one.
  const isBehind = error.details?.cacheBytes !== shareOf(slots, numLayers)
  const cacheBytes = isBehind ? cache.hostBytes! : slots
  return new MoeError(
    'ERR_MOE_CACHE_TOO_SMALL',
    isBehind
      ? `The cache's ${cacheBytes} bytes of the host for ${numLayers} layers do not hold an expert of layer ${layer}: give it ${neededBytes}, or none`
      : `A cache of ${cacheBytes} bytes for ${numLayers} layers does not hold the experts of one token, and one more, of layer ${layer}: ` +
          `give it ${neededBytes}, or load fewer \`layers\``,
    { cause: error, details: { neededBytes, cacheBytes, layer } },
  )
}
