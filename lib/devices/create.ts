/** Makes the layer and stage runtimes of a chosen device. No other file chooses between native and reference. */

import type { ActivationsOption } from '../block/activations.js'
import type { ResolvedMoeConfig } from '../block/config.js'
import type { DType } from '../block/dtype.js'
import { isUint16Array } from '../block/typed-arrays.js'
import type { WeightsOption } from '../block/weight-format.js'
import type { ExpertMatrix, MoeWeights } from '../block/weights.js'
import { plannedInt8Matrices } from '../checkpoint/load/int8-matrices.js'
import { decodedFormats, loadMatrices } from '../checkpoint/load/matrices.js'
import { isQuantizedMatrix } from '../checkpoint/load/quantized-matrix.js'
import { readVectors } from '../checkpoint/load/vectors.js'
import type { LayerPlan } from '../checkpoint/plan/layer-plan.js'
import type { LayerRuntime, StageRuntime } from './contract.js'
import { type ChosenDevice, chooseDevice, isHostDevice } from './device.js'
import { reserveHostMemory } from './host-memory.js'
import { log } from './log.js'
import { createNativeLayer, loadNativeLayer, nativeStages } from './native/runtime.js'
import { ReferenceLayerRuntime } from './reference/runtime.js'
import { referenceStages } from './reference/stages.js'

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
  signal?: AbortSignal
  onProgress?: (progress: { loadedBytes: number; totalBytes: number }) => void
}

/** Executes a plan: small tensors here, expert matrices on the device. */
export async function loadRuntime(
  device: ChosenDevice,
  plan: LayerPlan,
  dtype: DType,
  { weights, activations, threads, batchInvariant, maxJointTokens, signal, onProgress }: LoadRuntimeOptions,
): Promise<LayerRuntime> {
  const { totalBytes } = plan
  for (const notice of plan.notices) log('warn', notice)
  let loadedBytes = 0
  const report = () => {
    try {
      onProgress?.({ loadedBytes, totalBytes })
    } catch (error) {
      log('error', `onProgress threw: ${error instanceof Error ? error.message : error}`)
    }
  }
  report()
  const tensors = `The tensors of layer ${plan.layer}`
  const reservation = reserveHostMemory(heldBytes(plan, !device.addon), tensors)
  const storedBytes = device.addon ? vectorBytes(plan) : totalBytes
  const onBytes = (bytes: number) => {
    loadedBytes += bytes
    reservation.keep(Math.max(0, 1 - loadedBytes / storedBytes))
    report()
  }
  try {
    const vectors = await readVectors(plan, { signal, onBytes })
    signal?.throwIfAborted()
    if (!device.addon) {
      const matrices = await loadMatrices(plan, dtype, { weights, signal, onBytes })
      signal?.throwIfAborted()
      const format = decodedFormats(plan, dtype, weights)
      const int8 = activations === 'int8' ? await plannedInt8Matrices(plan, weights, signal) : undefined
      return ReferenceLayerRuntime.fromTensors(plan.config, dtype, vectors, matrices, format, int8)
    }
    const readBytes = loadedBytes
    return await loadNativeLayer(device.addon, plan, vectors, {
      device: device.id,
      dtype,
      weights,
      activations,
      threads,
      batchInvariant,
      maxJointTokens,
      signal,
      onProgress: matrixBytes => {
        loadedBytes = readBytes + matrixBytes
        report()
      },
    })
  } finally {
    reservation.release()
  }
}

function vectorBytes({ vectors }: LayerPlan): number {
  return vectors.flatMap(({ sources }) => sources).reduce((sum, { bytes }) => sum + bytes, 0)
}

/** Bytes that a load holds as typed arrays: the small tensors, and for the reference all others. All elements have four bytes there. */
function heldBytes({ vectors, matrices }: LayerPlan, withMatrices: boolean): number {
  const small = vectors.reduce((sum, { length }) => sum + length, 0)
  const large = withMatrices ? matrices.reduce((sum, { rows, cols }) => sum + rows * cols, 0) : 0
  return 4 * (small + large)
}

/** Makes a runtime from arrays; `auto` is the dtype of the arrays themselves. */
export function createRuntime(
  device: ChosenDevice,
  config: ResolvedMoeConfig,
  asked: 'auto' | DType,
  weights: MoeWeights,
  options: Pick<
    LoadRuntimeOptions,
    'weights' | 'activations' | 'threads' | 'batchInvariant' | 'maxJointTokens'
  >,
): LayerRuntime {
  const dtype = asked === 'auto' ? storedDtype(weights) : asked
  if (!device.addon) return ReferenceLayerRuntime.fromWeights(config, dtype, weights, options)
  return createNativeLayer(device.addon, config, weights, { ...options, device: device.id, dtype })
}

function storedDtype(weights: MoeWeights): DType {
  const matrix: ExpertMatrix | undefined = weights?.experts?.[0]?.up
  if (isQuantizedMatrix(matrix)) return weights.dtype ?? 'bf16'
  const data = matrix && 'strides' in matrix ? matrix.data : matrix
  return isUint16Array(data) ? (weights.dtype ?? 'bf16') : 'f32'
}

const stageRuntimes = new Map<string, StageRuntime>()

/** The stages of a tensor's device; looked up once, since listing devices asks the system for its memory. */
export function stagesOf(device: string): StageRuntime {
  let stages = stageRuntimes.get(device)
  if (!stages) {
    const chosen = chooseDevice(device)
    stages = chosen.addon ? nativeStages(chosen.addon, chosen.id, isHostDevice(chosen.id)) : referenceStages
    stageRuntimes.set(device, stages)
  }
  return stages
}
