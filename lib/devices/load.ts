/** Loads layers of a checkpoint on the devices that were chosen for them: all of them, or none. */

import type { ActivationsOption } from '../block/activations.js'
import type { CacheSettings } from '../block/cache-options.js'
import type { DType } from '../block/dtype.js'
import { MoeError } from '../block/errors.js'
import type { WeightsOption } from '../block/weight-format.js'
import { plannedInt8Matrices } from '../checkpoint/load/int8-matrices.js'
import { decodedFormats, loadMatrices } from '../checkpoint/load/matrices.js'
import { readVectors } from '../checkpoint/load/vectors.js'
import { type LayerPlan, matrixBytesOf, vectorBytesOf } from '../checkpoint/plan/layer-plan.js'
import type { LayerRuntime } from './contract.js'
import type { ChosenDevice } from './device.js'
import { reserveHostMemory } from './host-memory.js'
import { log } from './log.js'
import type { NativeAddon, NativeLayer } from './native/binding-contract.js'
import { loadNativeMatrices, type OpenedNativeLayer, openNativeLayer } from './native/load-layers.js'
import { ReferenceLayerRuntime } from './reference/runtime.js'

/** One layer of a load. */
export interface LayerToLoad {
  readonly plan: LayerPlan
  readonly device: ChosenDevice
  readonly dtype: DType
  /** Experts that are in the layer's cache before the first call, as many of the first as have slots. @defaultValue none */
  readonly warm?: Int32Array
  /** Layers with the same number compete for the slots of their caches; their experts are of one size. @defaultValue slots of its own */
  readonly pool?: number
}

/** What a load has read so far. */
export interface LoadProgress {
  /** Of the checkpoint's files. */
  loadedBytes: number
  totalBytes: number
  /** Decoder layer that is being read. */
  layer: number
}

/** What loading may be told. */
export interface LoadRuntimeOptions {
  /** How matrices are held. */
  weights: WeightsOption
  activations: ActivationsOption
  /** 0: all of the device's. */
  threads: number
  batchInvariant: boolean
  /** Rows of waiting calls that run as one; 0: each call runs alone. */
  maxJointTokens: number
  /** Rows of a call for which devices get their scratch before matrices are read; 0: with the first call. */
  reservedTokens: number
  /** Absent: all experts stay in memory. */
  cache?: CacheSettings
  signal?: AbortSignal
  onProgress?: (progress: LoadProgress) => void
}

/**
 * Executes plans: the small tensors of each layer here, then the matrices of all on their devices. When anything fails or the signal fires,
 * nothing stays behind.
 */
export async function loadRuntimes(
  layers: readonly LayerToLoad[],
  options: LoadRuntimeOptions,
): Promise<LayerRuntime[]> {
  const { signal } = options
  for (const notice of new Set(layers.flatMap(({ plan }) => plan.notices))) log('warn', notice)
  const progress = new ProgressReport(layers, options.onProgress)
  const runtimes: LayerRuntime[] = []
  const opened: OpenedNativeLayer[] = []
  const firstOfPool = new Map<number, NativeLayer>()
  const lastOfDevice = new Map<string, NativeLayer>()
  let addon: NativeAddon | null = null
  try {
    await checkUnchanged(layers)
    for (const layer of layers) {
      progress.layer = layer.plan.layer
      if (layer.device.addon) {
        addon = layer.device.addon
        const sharedWith = layer.pool === undefined ? undefined : firstOfPool.get(layer.pool)
        const behind =
          (options.cache?.prefetch ?? 'off') === 'off' ? undefined : lastOfDevice.get(layer.device.id)
        const native = await openLayer(layer, addon, { ...options, sharedWith, behind }, progress)
        lastOfDevice.set(layer.device.id, native.native)
        if (layer.pool !== undefined && !sharedWith) firstOfPool.set(layer.pool, native.native)
        runtimes.push(native.runtime)
        opened.push({ ...native, warm: layer.warm })
      } else runtimes.push(await loadReference(layer, options, progress))
    }
    if (addon) await readMatrices(addon, layers, opened, options, progress)
    signal?.throwIfAborted()
    await checkUnchanged(layers)
    return runtimes
  } catch (error) {
    for (const runtime of runtimes) runtime.dispose()
    if (isOfFiles(error)) await checkUnchanged(layers)
    throw error
  }
}

async function checkUnchanged(layers: readonly LayerToLoad[]): Promise<void> {
  const openFiles = layers[0]?.plan.openFiles
  await openFiles?.checkUnchanged(layers.flatMap(({ plan }) => plan.files))
}

/** What may come of a file that is no longer what it was. */
const isOfFiles = (error: unknown) =>
  error instanceof MoeError && (error.code === 'ERR_MOE_IO' || error.code === 'ERR_MOE_INVALID_CHECKPOINT')

async function openLayer(
  { plan, device, dtype }: LayerToLoad,
  addon: NativeAddon,
  options: LoadRuntimeOptions & { sharedWith?: NativeLayer; behind?: NativeLayer },
  progress: ProgressReport,
): Promise<OpenedNativeLayer> {
  const { signal } = options
  const reservation = reserveHostMemory(arrayBytes(plan, false), tensorsOf(plan))
  const storedBytes = vectorBytesOf(plan)
  let read = 0
  try {
    const onBytes = (bytes: number) => {
      read += bytes
      reservation.keep(Math.max(0, 1 - read / storedBytes))
      progress.add(bytes)
    }
    const vectors = await readVectors(plan, { signal, onBytes })
    signal?.throwIfAborted()
    return await openNativeLayer(addon, plan, vectors, { ...options, device: device.id, dtype })
  } finally {
    reservation.release()
  }
}

async function readMatrices(
  addon: NativeAddon,
  layers: readonly LayerToLoad[],
  opened: readonly OpenedNativeLayer[],
  { reservedTokens, signal }: LoadRuntimeOptions,
  progress: ProgressReport,
): Promise<void> {
  const plans = layers.flatMap(({ plan, device }) => (device.addon ? [plan] : []))
  const before = progress.loadedBytes
  await loadNativeMatrices(addon, opened, {
    reservedTokens,
    signal,
    onProgress: (bytes, layer) => {
      progress.layer = plans[layer]!.layer
      progress.set(before + bytes)
    },
  })
  progress.set(before + plans.reduce((sum, plan) => sum + matrixBytesOf(plan), 0))
}

async function loadReference(
  { plan, dtype }: LayerToLoad,
  { weights, activations, signal }: LoadRuntimeOptions,
  progress: ProgressReport,
): Promise<LayerRuntime> {
  const reservation = reserveHostMemory(arrayBytes(plan, true), tensorsOf(plan))
  let read = 0
  try {
    const onBytes = (bytes: number) => {
      read += bytes
      reservation.keep(Math.max(0, 1 - read / plan.totalBytes))
      progress.add(bytes)
    }
    const vectors = await readVectors(plan, { signal, onBytes })
    signal?.throwIfAborted()
    const matrices = await loadMatrices(plan, dtype, { weights, signal, onBytes })
    signal?.throwIfAborted()
    const format = decodedFormats(plan, dtype, weights)
    const int8 = activations === 'int8' ? await plannedInt8Matrices(plan, weights, signal) : undefined
    return ReferenceLayerRuntime.fromTensors(plan.config, dtype, vectors, matrices, format, int8)
  } finally {
    reservation.release()
  }
}

const tensorsOf = ({ layer }: LayerPlan) => `The tensors of layer ${layer}`

/** Bytes that a load holds as typed arrays: the small tensors, and for the reference all others. All elements have four bytes there. */
export function arrayBytes({ vectors, matrices }: LayerPlan, withMatrices: boolean): number {
  const small = vectors.reduce((sum, { length }) => sum + length, 0)
  const large = withMatrices ? matrices.reduce((sum, { rows, cols }) => sum + rows * cols, 0) : 0
  return 4 * (small + large)
}

/** Tells the caller how far the load is. A callback that throws is logged and changes nothing. */
class ProgressReport {
  loadedBytes = 0
  layer: number
  readonly #totalBytes: number
  readonly #onProgress: LoadRuntimeOptions['onProgress']

  constructor(layers: readonly LayerToLoad[], onProgress: LoadRuntimeOptions['onProgress']) {
    this.#totalBytes = layers.reduce((sum, { plan }) => sum + plan.totalBytes, 0)
    this.#onProgress = onProgress
    this.layer = layers[0]?.plan.layer ?? 0
    this.set(0)
  }

  add(bytes: number): void {
    this.set(this.loadedBytes + bytes)
  }

  set(loadedBytes: number): void {
    this.loadedBytes = loadedBytes
    try {
      this.#onProgress?.({ loadedBytes, totalBytes: this.#totalBytes, layer: this.layer })
    } catch (error) {
      log('error', `onProgress threw: ${error instanceof Error ? error.message : error}`)
    }
  }
}
