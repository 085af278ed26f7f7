/** Makes layers of the addon from the plans of a checkpoint: each gets its memory, then one load reads the matrices of all. */

import { onAbort } from '../../block/abort.js'
import { type CacheSettings, DEFAULT_READERS } from '../../block/cache-options.js'
import { withGroupOrders } from '../../checkpoint/load/group-order.js'
import type { LayerPlan, MatrixItem } from '../../checkpoint/plan/layer-plan.js'
import type { VectorTensors } from '../../spec/vectors.js'
import type { LayerRuntime } from '../contract.js'
import type { NativeAddon, NativeCacheOptions, NativeError, NativeLayer } from './binding-contract.js'
import { captureCallSite, fromNativeError } from './errors.js'
import { type NativeLayerOptions, NativeLayerRuntime } from './runtime.js'
import { chooseWeightFormats } from './weight-formats.js'

/** A layer that has its memory and its small tensors. It refuses calls until {@link loadNativeMatrices} has read the others. */
export interface OpenedNativeLayer {
  readonly runtime: LayerRuntime
  readonly native: NativeLayer
  readonly files: readonly string[]
  readonly matrices: readonly MatrixItem[]
  /** Experts that are in the layer's cache when the load ends, as many of the first as have slots. */
  readonly warm?: Int32Array
}

/**
 * Makes a layer from a plan.
 *
 * @param vectors the small tensors of the plan, read already
 * @throws {@link MoeError} ERR_MOE_IO, ERR_MOE_OUT_OF_MEMORY, ERR_MOE_DEVICE_UNAVAILABLE, ERR_MOE_UNSUPPORTED_FORMAT; `signal.reason`
 */
export async function openNativeLayer(
  addon: NativeAddon,
  plan: LayerPlan,
  vectors: VectorTensors,
  options: NativeLayerOptions & {
    cache?: CacheSettings
    /** A layer of the same device that shares the slots of its cache. */
    sharedWith?: NativeLayer
    /** The layer of the same device whose calls come before those of this one. */
    behind?: NativeLayer
    signal?: AbortSignal
  },
): Promise<OpenedNativeLayer> {
  const { device, dtype, weights, activations, threads, batchInvariant, maxJointTokens, signal } = options
  const { config, files, gateUpInterleaved } = plan
  const matrices = weights === 'expand' ? plan.matrices : await withGroupOrders(plan, signal)
  signal?.throwIfAborted()
  try {
    const target = { device, dtype, weights, activations }
    const held = chooseWeightFormats(addon, target, config, matrices, gateUpInterleaved)
    const native = addon.createLayer({
      ...{ device, dtype, threads, batchInvariant, maxJointTokens, config, vectors, gateUpInterleaved },
      ...held.native,
      int8Activations: activations === 'int8',
      cache: options.cache
        ? { ...nativeCache(options.cache)!, sharedWith: options.sharedWith, behind: options.behind }
        : null,
    })
    const runtime = new NativeLayerRuntime(addon, native, config, options, held.format)
    return { runtime, native, files, matrices }
  } catch (error) {
    throw fromNativeError(error, 'run')
  }
}

/** With every default written out; null: all experts stay in memory. */
export function nativeCache(cache: CacheSettings | undefined): NativeCacheOptions | null {
  if (cache === undefined) return null
  const { hostBytes = 0, deviceBytes = 0, policy = 'lru', readers = DEFAULT_READERS } = cache
  const { directIo = 'auto', prefetch = 'off' } = cache
  return {
    ...{ hostBytes, deviceBytes, policy, readers, directReads: directIo === 'auto' },
    ...{ prefetches: prefetch !== 'off', prefetchBytes: cache.prefetchBytesPerCall ?? 0 },
  }
}

/**
 * Reads and decodes the matrices of layers on threads of their own, straight into their places, in the order in which they lie in the files.
 * After a failure or an abort the layers are of no use: whoever made them disposes of them.
 *
 * @param options.reservedTokens rows of a call for which the layers' devices get their scratch before anything is read; 0: none
 * @param options.onProgress gets the bytes of matrices read so far, and the index of the layer that is being read
 * @throws {@link MoeError} ERR_MOE_IO, ERR_MOE_INVALID_CHECKPOINT, ERR_MOE_OUT_OF_MEMORY, ERR_MOE_DEVICE_LOST; `signal.reason`
 */
export async function loadNativeMatrices(
  addon: NativeAddon,
  layers: readonly OpenedNativeLayer[],
  options: {
    reservedTokens: number
    signal?: AbortSignal
    onProgress?: (loadedBytes: number, layer: number) => void
  },
): Promise<void> {
  const { reservedTokens, signal, onProgress } = options
  const site = captureCallSite(loadNativeMatrices)
  signal?.throwIfAborted()
  let stopListening = () => {}
  try {
    await new Promise<void>((resolve, reject) => {
      const done = (error: NativeError | null) => (error === null ? resolve() : reject(error))
      const parts = layers.map(({ native, files, matrices, warm }) => ({
        ...{ layer: native, files, items: matrices, reservedTokens, warm },
      }))
      const cancel = addon.loadLayers(parts, onProgress ?? null, done)
      if (signal) stopListening = onAbort(signal, cancel)
    })
    signal?.throwIfAborted()
  } catch (error) {
    throw signal?.aborted ? signal.reason : fromNativeError(error, 'load', site)
  } finally {
    stopListening()
  }
}
