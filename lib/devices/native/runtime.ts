/** Layers on the addon's devices: makes them from arrays, runs them, and turns the addon's errors into those of the package. */

import { isMainThread } from 'node:worker_threads'
import type { ActivationsOption } from '../../block/activations.js'
import type { CacheStats } from '../../block/cache-options.js'
import type { ResolvedMoeConfig } from '../../block/config.js'
import type { DType } from '../../block/dtype.js'
import { MoeError } from '../../block/errors.js'
import type { LayerWeightFormat, WeightsOption } from '../../block/weight-format.js'
import type { MoeWeights } from '../../block/weights.js'
import { withGroupOrder } from '../../checkpoint/load/group-order.js'
import type { MatrixItem } from '../../checkpoint/plan/layer-plan.js'
import { STORED_BYTES, type StoredType } from '../../spec/formats.js'
import {
  CANCELLED,
  type CallTimes,
  type ForwardRequest,
  type LayerRuntime,
  type MemoryUse,
  type PhaseSeconds,
  type RuntimeCall,
  type StageKernels,
} from '../contract.js'
import type { NativeAddon, NativeLayer } from './binding-contract.js'
import { fromNativeError } from './errors.js'
import { type NativeMatrix, nativeTensors } from './tensors.js'
import { chooseWeightFormats } from './weight-formats.js'

export { nativeStages } from './stages.js'

/** Where a layer goes and in what precision. */
export interface NativeLayerOptions {
  /** 'cpu', 'cuda:0' … */
  device: string
  /** Arithmetic of the expert matmuls. */
  dtype: DType
  /** How the matrices are held. */
  weights: WeightsOption
  activations: ActivationsOption
  /** Participants in a forward at most; 0: all. */
  threads: number
  /** A row's bits never depend on the rows beside it. */
  batchInvariant: boolean
  /** Rows of waiting calls that run as one; 0: each call runs alone. */
  maxJointTokens: number
}

/** A layer in the addon's memory. */
export class NativeLayerRuntime implements LayerRuntime {
  readonly device: string
  readonly dtype: DType
  readonly activations: ActivationsOption
  readonly weightFormat: LayerWeightFormat
  #addon: NativeAddon
  #native: NativeLayer

  constructor(
    addon: NativeAddon,
    native: NativeLayer,
    readonly config: ResolvedMoeConfig,
    { device, dtype, activations }: NativeLayerOptions,
    weightFormat: LayerWeightFormat,
  ) {
    this.device = device
    this.dtype = dtype
    this.activations = activations
    this.weightFormat = weightFormat
    this.#addon = addon
    this.#native = native
  }

  forward(request: ForwardRequest): RuntimeCall {
    const native = this.#native
    let reject!: (reason: unknown) => void
    let jobId = 0
    const settled = new Promise<CallTimes>((resolve, rejectPromise) => {
      reject = rejectPromise
      try {
        jobId = native.forward(request, (error, waitedMs, ranMs, batchTokens, isFirst, fetchedBytes) => {
          if (error === null) resolve({ waitedMs, ranMs, batchTokens, isFirst: isFirst === 1, fetchedBytes })
          else rejectPromise(fromNativeError(error, 'run'))
        })
      } catch (error) {
        rejectPromise(fromNativeError(error, 'run'))
      }
    })
    const cancel = () => {
      if (jobId === 0) return 'done'
      const outcome = native.cancel(jobId)
      if (outcome === 'dropped') reject(CANCELLED)
      return outcome
    }
    return { settled, cancel }
  }

  forwardSync(request: ForwardRequest): number {
    return translated('run', () => this.#native.forwardSync(request, !isMainThread))
  }

  memory(): MemoryUse {
    return this.#native.memory()
  }

  phases(): PhaseSeconds | null {
    return this.#native.phases()
  }

  cache(): CacheStats | null {
    return this.#native.cache()
  }

  kernels(numTokens: number): StageKernels {
    return translated('run', () => this.#native.describeForward(numTokens))
  }

  loss(): MoeError | null {
    const reason = this.#addon.deviceLoss(this.device)
    return reason === '' ? null : new MoeError('ERR_MOE_DEVICE_LOST', reason)
  }

  workspaceBytes(numTokens: number): number {
    return translated('run', () => this.#native.workspaceBytes(numTokens))
  }

  dispose(): void {
    this.#native.dispose()
  }
}

function translated<Result>(activity: 'run' | 'load', body: () => Result): Result {
  try {
    return body()
  } catch (error) {
    throw fromNativeError(error, activity)
  }
}

/**
 * Makes a layer from a caller's arrays, which are copied and rounded to `dtype`. Synchronous.
 *
 * @throws TypeError and RangeError with ERR_MOE_INVALID_ARG_* when the weights do not fit the config; {@link MoeError}
 * ERR_MOE_OUT_OF_MEMORY, ERR_MOE_DEVICE_UNAVAILABLE
 */
export function createNativeLayer(
  addon: NativeAddon,
  config: ResolvedMoeConfig,
  weights: MoeWeights,
  options: NativeLayerOptions,
): LayerRuntime {
  const { vectors, matrices } = nativeTensors(config, weights)
  return translated('run', () => {
    const items = matrices.map(itemOf)
    const held = chooseWeightFormats(addon, options, config, items, false)
    const native = addon.createLayer({
      ...options,
      ...held.native,
      int8Activations: options.activations === 'int8',
      config,
      vectors,
      gateUpInterleaved: false,
    })
    try {
      for (const [i, { role, expert, name, source }] of matrices.entries()) {
        if ('matrix' in source) {
          const { data, offset, rowStride, colStride } = source.matrix
          native.setMatrix(role, expert, name, data, source.dtype, offset, rowStride, colStride)
          continue
        }
        const { groupIndex, ...buffers } = source.buffers
        const parts = groupIndex && items[i]!.groupIndex ? { ...buffers, groupIndex } : buffers
        native.setEncoded(role, expert, name, source.encoding, parts)
      }
    } catch (error) {
      native.dispose()
      throw error
    }
    return new NativeLayerRuntime(addon, native, config, options, held.format)
  })
}

/** A caller's matrix as a plan would list it. */
function itemOf({ role, expert, name, rows, cols, source }: NativeMatrix): MatrixItem {
  const segment = (bytes: number, type: StoredType) => ({ file: 0, offset: 0, bytes, type, name })
  const place = { role, expert, matrix: name, rows, cols }
  if ('matrix' in source) {
    const type = source.dtype.toUpperCase() as StoredType
    return { ...place, encoding: { codec: 'float' }, data: segment(rows * cols * STORED_BYTES[type], type) }
  }
  const { encoding, buffers } = source
  const { data, ...rest } = buffers
  const parts = Object.entries(rest).map(([part, buffer]) => [
    part,
    segment(buffer.bytes.byteLength, buffer.type),
  ])
  const item: MatrixItem = {
    ...place,
    encoding,
    data: segment(data.bytes.byteLength, data.type),
    ...(Object.fromEntries(parts) as Partial<MatrixItem>),
  }
  return rest.groupIndex ? withGroupOrder(item, rest.groupIndex.bytes) : item
}
