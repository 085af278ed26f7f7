/** What a layer of a checkpoint will take on a device, from headers alone. */

import type { ActivationsOption } from '../block/activations.js'
import type { CacheSettings } from '../block/cache-options.js'
import type { DType } from '../block/dtype.js'
import type { LayerWeightFormat, WeightsOption } from '../block/weight-format.js'
import { decodedFormats } from '../checkpoint/load/matrices.js'
import { type LayerPlan, matrixBytesOf, vectorLengths } from '../checkpoint/plan/layer-plan.js'
import type { ChosenDevice } from './device.js'
import { arrayBytes } from './load.js'
import { fromNativeError } from './native/errors.js'
import { nativeCache } from './native/load-layers.js'
import { chooseWeightFormats } from './native/weight-formats.js'
import { referenceWorkspaceBytes } from './reference/workspace.js'

/** What a layer takes. */
export interface LayerMeasure {
  /** Of all its weights that stay in memory, on its device. */
  bytes: number
  /** Of memory of the host that a `cache` has behind a device with memory of its own. */
  pinnedBytes: number
  /** What one expert would take in a `cache`; 0 where the device keeps all in its memory. */
  expertBytes: number
  /** Scratch of a forward, which the layers of a device share. */
  workspaceBytes: number
  /** Host memory of the small tensors on their way, one layer after the other. */
  vectorBytes: number
  /** Host memory of each thread that loads, and how many there are. */
  scratchBytes: number
  loadThreads: number
  /** Host memory of each thread that reads experts for a cache. */
  readerScratchBytes: number
  weightFormat: LayerWeightFormat
}

/**
 * Whether the columns of a matrix with group indices are grouped evenly only those indices tell, which are not read here: a layer whose
 * groups are uneven takes more than this says.
 *
 * @throws {@link MoeError} ERR_MOE_UNSUPPORTED_FORMAT, ERR_MOE_DEVICE_UNAVAILABLE, ERR_MOE_CACHE_TOO_SMALL
 */
export function measureLayer(
  device: ChosenDevice,
  plan: LayerPlan,
  dtype: DType,
  options: {
    weights: WeightsOption
    activations: ActivationsOption
    threads: number
    batchInvariant: boolean
    numTokens: number
    cache?: CacheSettings
  },
): LayerMeasure {
  const { config, matrices, gateUpInterleaved } = plan
  const { weights, activations, threads, batchInvariant, numTokens } = options
  const vectorBytes = arrayBytes(plan, false)
  if (!device.addon) {
    return {
      bytes: arrayBytes(plan, true),
      pinnedBytes: 0,
      expertBytes: 0,
      workspaceBytes: referenceWorkspaceBytes(config, numTokens),
      vectorBytes: 0,
      scratchBytes: Math.max(0, ...matrices.map(item => matrixBytesOf({ matrices: [item] }))),
      loadThreads: 1,
      readerScratchBytes: 0,
      weightFormat: decodedFormats(plan, dtype, weights),
    }
  }
  const { id, addon } = device
  try {
    const target = { device: id, dtype, weights, activations }
    const held = chooseWeightFormats(addon, target, config, matrices, gateUpInterleaved)
    const cache = nativeCache(options.cache)
    const description = { device: id, config, dtype, gateUpInterleaved, threads, cache }
    const native = { ...held.native, matrices, vectorLengths: vectorLengths(plan) }
    const call = { batchInvariant, int8Activations: activations === 'int8' }
    return {
      ...addon.measureLayer({ ...description, ...native }),
      workspaceBytes: addon.workspaceBytes(id, config, dtype, numTokens, call, held.native),
      vectorBytes,
      weightFormat: held.format,
    }
  } catch (error) {
    throw fromNativeError(error, 'run')
  }
}
