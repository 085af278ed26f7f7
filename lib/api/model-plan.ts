/** What many layers will take on their devices, before anything is loaded. */

import { DEFAULT_READERS } from '../block/cache-options.js'
import type { DType } from '../block/dtype.js'
import { MoeError } from '../block/errors.js'
import type { LayerWeightFormat } from '../block/weight-format.js'
import type { LayerPlan } from '../checkpoint/plan/layer-plan.js'
import { type ChosenDevice, devices, isHostDevice } from '../devices/device.js'
import { hostMemory } from '../devices/host-memory.js'
import { type LayerMeasure, measureLayer } from '../devices/measure.js'
import { cacheShare, ofWholeCache } from './cached-layers.js'
import { dtypeOf, runtimeOptions } from './layer-options.js'
import { type ModelOptions, maxTokensOf } from './model-options.js'

/** One layer of a {@link ModelPlan}. */
export interface ModelLayerPlan {
  /** Decoder layer. */
  index: number
  device: string
  dtype: DType
  /** Bytes of the files that are read for it. */
  storedBytes: number
  /** Its weights in memory of the host; of a layer with a `cache`, those that stay there, page-locked for a layer on a GPU. */
  hostBytes: number
  /** Its weights in memory of a device of its own; of a layer with a `cache`, those that stay there. */
  deviceBytes: number
  /** Memory of one expert of a layer with a `cache`, or of this layer if it had one; 0 where the device keeps all experts in its memory. */
  expertBytes: number
  /** How each matrix is stored, and how it will be held. */
  weightFormat: LayerWeightFormat
}

/** Memory of the host, or of one device that has its own. */
export interface MemoryPlan {
  /** 'host', or the device: 'cuda:0' … */
  memory: string
  /** Of all layers there. */
  weightBytes: number
  /** Scratch of forwards of `maxTokens` rows: one for all layers of a device. */
  workspaceBytes: number
  /** What only loading takes, and with a `cache` what its readers take: matrices and small tensors on their way. Host only. */
  loadingBytes: number
  /** All of these. */
  neededBytes: number
  /** What is left, within the limits of the control groups of this process. */
  freeBytes: number
  fits: boolean
}

/** What `MoeModel.load` will do with the same options. */
export interface ModelPlan {
  layers: ModelLayerPlan[]
  memory: MemoryPlan[]
  /** Rows of a call that the workspaces are for. */
  maxTokens: number
  /** Bytes that will be read. */
  storedBytes: number
  fits: boolean
  /** Why not, and what to do, a sentence for each memory that is too small. */
  reasons: string[]
}

/** Which of `count` devices each layer goes to: in a row, by the middles of their bytes. */
export function assignDevices(bytes: readonly number[], count: number): number[] {
  const total = bytes.reduce((sum, of) => sum + of, 0)
  let before = 0
  return bytes.map(of => {
    const middle = before + of / 2
    before += of
    return total === 0 ? 0 : Math.min(count - 1, Math.floor((middle / total) * count))
  })
}

/** Collects layers, one at a time, so that no plan of a layer need be kept. */
export class ModelPlanner {
  readonly #options: ModelOptions
  readonly #numLayers: number
  readonly #layers: ModelLayerPlan[] = []
  readonly #measures: { device: string; measure: LayerMeasure }[] = []

  /** @param numLayers how many will be added: they share a `cache` */
  constructor(options: ModelOptions, numLayers: number) {
    this.#options = options
    this.#numLayers = numLayers
  }

  /** The arithmetic of the layer on that device. */
  add(device: ChosenDevice, plan: LayerPlan): DType {
    const dtype = dtypeOf(this.#options, plan.storedDtype)
    const measure = this.#measure(device, plan, dtype)
    const isHost = isHostDevice(device.id)
    this.#measures.push({ device: device.id, measure })
    this.#layers.push({
      index: plan.layer,
      device: device.id,
      dtype,
      storedBytes: plan.totalBytes,
      hostBytes: isHost ? measure.bytes : measure.pinnedBytes,
      deviceBytes: isHost ? 0 : measure.bytes,
      expertBytes: measure.expertBytes,
      weightFormat: measure.weightFormat,
    })
    return dtype
  }

  #measure(device: ChosenDevice, plan: LayerPlan, dtype: DType): LayerMeasure {
    const { cache } = this.#options
    const own = { numTokens: maxTokensOf(this.#options), cache: cacheShare(cache, this.#numLayers) }
    try {
      return measureLayer(device, plan, dtype, { ...runtimeOptions(this.#options), ...own })
    } catch (error) {
      throw cache ? ofWholeCache(error, plan.layer, this.#numLayers, cache) : error
    }
  }

  finish(): ModelPlan {
    const known = devices()
    const own = [...new Set(this.#measures.map(({ device }) => device))].filter(id => !isHostDevice(id))
    const memory = [
      this.#memory('host', isHostDevice, this.#loadingBytes(), hostMemory().freeBytes),
      ...own.map(id =>
        this.#memory(id, device => device === id, 0, known.find(info => info.id === id)?.freeBytes ?? 0),
      ),
    ]
    const reasons = memory.filter(({ fits }) => !fits).map(shortage)
    return {
      layers: this.#layers,
      memory,
      maxTokens: maxTokensOf(this.#options),
      storedBytes: this.#layers.reduce((sum, { storedBytes }) => sum + storedBytes, 0),
      fits: reasons.length === 0,
      reasons,
    }
  }

  #memory(
    memory: string,
    isThere: (device: string) => boolean,
    loadingBytes: number,
    freeBytes: number,
  ): MemoryPlan {
    const there = this.#measures.filter(({ device }) => isThere(device))
    const pinned = memory === 'host' ? this.#measures : []
    const weightBytes =
      there.reduce((sum, { measure }) => sum + measure.bytes, 0) +
      pinned.reduce((sum, { measure }) => sum + measure.pinnedBytes, 0)
    const largest = new Map<string, number>()
    for (const { device, measure } of there)
      largest.set(device, Math.max(largest.get(device) ?? 0, measure.workspaceBytes))
    const workspaceBytes = [...largest.values()].reduce((sum, bytes) => sum + bytes, 0)
    const neededBytes = weightBytes + workspaceBytes + loadingBytes
    return {
      memory,
      weightBytes,
      workspaceBytes,
      loadingBytes,
      neededBytes,
      freeBytes,
      fits: neededBytes <= freeBytes,
    }
  }

  /** The threads of all devices load at once; small tensors come one layer after the other. */
  #loadingBytes(): number {
    const scratch = new Map<string, number>()
    let vectors = 0
    // A cache's readers begin when the load has ended.
    const readers = this.#options.cache ? (this.#options.cache.readers ?? DEFAULT_READERS) : 0
    for (const { device, measure } of this.#measures) {
      const { loadThreads, scratchBytes, readerScratchBytes } = measure
      const bytes = Math.max(loadThreads * scratchBytes, readers * readerScratchBytes)
      scratch.set(device, Math.max(scratch.get(device) ?? 0, bytes))
      vectors = Math.max(vectors, measure.vectorBytes)
    }
    return vectors + [...scratch.values()].reduce((sum, bytes) => sum + bytes, 0)
  }
}

function shortage({ memory, neededBytes, freeBytes, ...parts }: MemoryPlan): string {
  const where = memory === 'host' ? 'memory of the host' : `memory of ${memory}`
  return (
    `The layers need ${neededBytes} bytes of ${where} (weights ${parts.weightBytes}, workspace ${parts.workspaceBytes}, ` +
    `loading ${parts.loadingBytes}), and ${freeBytes} are free: load fewer \`layers\`, hold them in fewer bits ` +
    "(`weights: 'int4'`), leave experts in the checkpoint (`cache`), lower `maxTokens`, or give more devices"
  )
}

/** @throws {@link MoeError} ERR_MOE_OUT_OF_MEMORY with the figures of the first memory that is too small */
export function requireFit(plan: ModelPlan): void {
  const short = plan.memory.find(({ fits }) => !fits)
  if (!short) return
  const { memory, neededBytes, freeBytes, weightBytes, workspaceBytes, loadingBytes } = short
  throw new MoeError('ERR_MOE_OUT_OF_MEMORY', plan.reasons.join('; '), {
    details: { memory, neededBytes, freeBytes, weightBytes, workspaceBytes, loadingBytes },
  })
}
