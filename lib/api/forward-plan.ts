/** What a forward will take, before it runs and before anything is loaded. */

import type { ActivationsOption } from '../block/activations.js'
import type { CacheShape, CacheStats } from '../block/cache-options.js'
import type { MoeConfig, ResolvedMoeConfig } from '../block/config.js'
import { expectedExperts, unitCosts } from '../block/cost.js'
import { DTYPES, type DType } from '../block/dtype.js'
import { invalidArgType, invalidArgValue } from '../block/errors.js'
import { resolveConfig } from '../block/resolve.js'
import type { LayerWeightFormat } from '../block/weight-format.js'
import { STORED_FORMS, type StoredForm } from '../checkpoint/plan/stored-as.js'
import type { LayerRuntime, StageKernels } from '../devices/contract.js'
import { chooseDevice, type DeviceOption } from '../devices/device.js'
import { forwardNeeds } from '../devices/forward-needs.js'
import { checkActivations } from './layer-options.js'

export type StageName = keyof StageKernels

/** One stage of a planned forward. */
export interface StagePlan {
  stage: StageName
  /** Kernel, its instruction set or architecture, and its tile. */
  kernel: string
  /** Expected multiply-adds × 2. */
  flops: number
  /** Expected bytes of weights and activations, each counted once. */
  bytes: number
}

/** What a forward of `numTokens` takes; expectations are for uniform routing. */
export interface ForwardPlan {
  device: string
  dtype: DType
  /** As the layer was asked for; `stages` says what each matmul does. */
  activations: ActivationsOption
  numTokens: number
  stages: StagePlan[]
  /** Scratch that the forward needs; exact. */
  workspaceBytes: number
  /** Bytes of the weights that lie in memory, as held: of all, or of a layer with a `cache` what its experts may take; exact. */
  residentBytes: number
  /** How experts are kept that do not all lie in memory; null where they do. */
  cache: CacheShape | null
  /** Distinct experts hit. */
  expectedExperts: number
  /** Bytes of distinct weights read. */
  expectedWeightBytes: number
  flops: number
  /** With every expert for every token. */
  denseFlops: number
}

/**
 * Plans a forward without loading anything.
 *
 * @param config the block
 * @param numTokens rows of the call
 * @param device as in `MoeLayer.load` @defaultValue 'auto'
 * @param options.dtype of the expert weights @defaultValue 'bf16'
 * @param options.weights the form in which all matrices are stored ('bf16', 'fp8', 'mxfp4', 'int4', 'q4_K' …), which is held where the
 * device computes it; or the `weightFormat` of a layer of this config @defaultValue values of `dtype`
 * @param options.activations as in `MoeLayer.load` @defaultValue 'exact'
 * @param options.batchInvariant as in `MoeLayer.load` @defaultValue false
 * @throws RangeError ERR_MOE_INVALID_ARG_VALUE; {@link MoeError} ERR_MOE_DEVICE_UNAVAILABLE, ERR_MOE_UNSUPPORTED_FORMAT
 */
export function plan(
  config: MoeConfig | ResolvedMoeConfig,
  numTokens: number,
  device: DeviceOption = 'auto',
  options: {
    dtype?: DType
    batchInvariant?: boolean
    weights?: StoredForm | LayerWeightFormat
    activations?: ActivationsOption
  } = {},
): ForwardPlan {
  const resolved = resolveConfig(config)
  const dtype = options.dtype ?? 'bf16'
  if (!DTYPES.includes(dtype)) throw invalidArgValue('dtype', "'f32', 'f16' or 'bf16'", dtype)
  checkNumTokens(numTokens)
  const chosen = chooseDevice(device)
  const { batchInvariant = false, weights, activations = 'exact' } = options
  checkWeights(weights)
  checkActivations(activations)
  const needs = forwardNeeds(chosen, resolved, dtype, numTokens, { batchInvariant, weights, activations })
  const layer = { config: resolved, dtype, activations, weightFormat: needs.format, device: chosen.id }
  return makePlan(layer, numTokens, needs.kernels, needs.workspaceBytes)
}

/** @internal The same of a layer that is loaded. */
export function explainForward(runtime: LayerRuntime, numTokens: number): ForwardPlan {
  checkNumTokens(numTokens)
  const cache = shapeOf(runtime.cache())
  return makePlan(runtime, numTokens, runtime.kernels(numTokens), runtime.workspaceBytes(numTokens), cache)
}

function shapeOf(cache: CacheStats | null): CacheShape | null {
  if (cache === null) return null
  const { expertBytes, slots, ringSlots, hostSlots, readers, prefetchExperts, directIo } = cache
  return { expertBytes, slots, ringSlots, hostSlots, readers, prefetchExperts, directIo }
}

function checkWeights(weights: unknown): void {
  if (weights === undefined || (typeof weights === 'object' && weights !== null && 'up' in weights)) return
  if (!STORED_FORMS.includes(weights as StoredForm))
    throw invalidArgValue('weights', `a layer's weightFormat, or one of ${STORED_FORMS.join(', ')}`, weights)
}

function checkNumTokens(numTokens: unknown): void {
  if (typeof numTokens !== 'number') throw invalidArgType('numTokens', 'a number', numTokens)
  if (!Number.isSafeInteger(numTokens) || numTokens < 0) {
    throw invalidArgValue('numTokens', 'a non-negative integer', numTokens)
  }
}

function makePlan(
  layer: Pick<LayerRuntime, 'config' | 'dtype' | 'activations' | 'weightFormat' | 'device'>,
  numTokens: number,
  kernels: StageKernels,
  workspace: number,
  cache: CacheShape | null = null,
): ForwardPlan {
  const { config, dtype, activations, device } = layer
  const unit = unitCosts(config, layer.weightFormat)
  const { hiddenSize, intermediateSize, numExperts, topK } = config
  const width = config.latentSize || hiddenSize
  const outputs = numExperts + config.numIdentityExperts
  const slots = (numTokens * topK * numExperts) / outputs
  const hit = expectedExperts(outputs, topK, numTokens) * (numExperts / outputs)
  const downBytes = unit.expertBytes - unit.gateUpBytes
  const upMatrices = config.gated ? 2 : 1
  const upFlops = 2 * upMatrices * width * intermediateSize
  const sharedFlops = numTokens * (unit.sharedFlops + unit.latentFlops)
  const always = numTokens === 0 ? 0 : unit.alwaysBytes
  const stages: StagePlan[] = [
    {
      stage: 'gate',
      kernel: kernels.gate,
      flops: numTokens * unit.routerFlops,
      bytes: numTokens === 0 ? 0 : unit.routerBytes + 4 * numTokens * (hiddenSize + outputs),
    },
    { stage: 'select', kernel: kernels.select, flops: 0, bytes: 4 * numTokens * (outputs + 2 * topK) },
    {
      stage: 'dispatch',
      kernel: kernels.dispatch,
      flops: 0,
      bytes: 8 * numTokens * topK + 4 * (numExperts + 1),
    },
    {
      stage: 'gateUp',
      kernel: kernels.gateUp,
      flops: slots * upFlops,
      bytes: hit * unit.gateUpBytes + 4 * slots * (width + intermediateSize),
    },
    {
      stage: 'down',
      kernel: kernels.down,
      flops: slots * 2 * width * intermediateSize,
      bytes: hit * downBytes + 4 * slots * (width + intermediateSize),
    },
    {
      stage: 'combine',
      kernel: kernels.combine,
      flops: 2 * slots * width + sharedFlops,
      bytes: always + 4 * slots * width + 4 * numTokens * hiddenSize,
    },
  ]
  return {
    device,
    dtype,
    activations,
    numTokens,
    stages,
    workspaceBytes: workspace,
    residentBytes:
      (cache ? (cache.slots + cache.ringSlots) * cache.expertBytes : unit.expertsBytes) +
      unit.alwaysBytes +
      unit.routerBytes,
    cache,
    expectedExperts: hit,
    expectedWeightBytes: numTokens === 0 ? 0 : hit * unit.expertBytes + always + unit.routerBytes,
    flops: slots * unit.expertFlops + sharedFlops + numTokens * unit.routerFlops,
    denseFlops: numTokens * (numExperts * unit.expertFlops + unit.routerFlops) + sharedFlops,
  }
}
