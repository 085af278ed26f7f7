/** Makes layers from arrays, and the stages, of a chosen device. Only `load.ts` chooses between native and reference besides. */

import type { ResolvedMoeConfig } from '../block/config.js'
import type { DType } from '../block/dtype.js'
import { isUint16Array } from '../block/typed-arrays.js'
import type { ExpertMatrix, MoeWeights } from '../block/weights.js'
import { isQuantizedMatrix } from '../checkpoint/load/quantized-matrix.js'
import type { LayerRuntime, StageRuntime } from './contract.js'
import { type ChosenDevice, chooseDevice, isHostDevice } from './device.js'
import type { LoadRuntimeOptions } from './load.js'
import { createNativeLayer, nativeStages } from './native/runtime.js'
import { ReferenceLayerRuntime } from './reference/runtime.js'
import { referenceStages } from './reference/stages.js'

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
