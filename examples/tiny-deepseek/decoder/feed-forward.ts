/**
 * The feed-forward of a layer, always through the package: sparse layers as `MoeLayer.load` reads them, dense ones as a layer of a single
 * expert whose softmax weight is 1. Sparse and dense then run on the same kernels in the same precision, and can be compared.
 */

import {
  type DeviceOption,
  type DType,
  type ExpertWeights,
  type MoeConfig,
  MoeLayer,
  type WeightsOption,
} from 'sparse-experts'
import type { TensorFile, TensorSource } from './checkpoint.js'

/** Where and how the feed-forwards run. */
export interface FeedForwardOptions {
  device?: DeviceOption
  dtype?: 'auto' | DType
  /** How they hold their matrices. */
  weights?: WeightsOption
  threads?: number
  /** A row's bits never depend on the rows beside it; they do not on `cpu` in any case. */
  batchInvariant?: boolean
}

/** One gated MLP in f32: `[width, hiddenSize]` twice, and `[hiddenSize, width]`. */
export interface Mlp {
  gate: Float32Array
  up: Float32Array
  down: Float32Array
}

/** @param name of the MLP, as `model.layers.0.mlp` */
export async function readMlp(
  source: TensorSource,
  name: string,
  hiddenSize: number,
  width: number,
): Promise<Mlp> {
  return {
    gate: await source.read(`${name}.gate_proj.weight`, [width, hiddenSize]),
    up: await source.read(`${name}.up_proj.weight`, [width, hiddenSize]),
    down: await source.read(`${name}.down_proj.weight`, [hiddenSize, width]),
  }
}

export const denseName = (layer: number) => `model.layers.${layer}.mlp`

/** Widths of dense layers differ between a model and its twins; the tensors know. */
export function denseSize(source: TensorFile, layer: number): number {
  const name = `${denseName(layer)}.gate_proj.weight`
  const size = source.shapeOf(name)?.[0]
  if (size === undefined) throw new Error(`there is no tensor '${name}'`)
  return size
}

/** A dense feed-forward down(silu(gate x) · up x) as a layer of one expert. */
export function createDense(
  hiddenSize: number,
  intermediateSize: number,
  expert: ExpertWeights,
  options: FeedForwardOptions,
): MoeLayer {
  const config: MoeConfig = {
    hiddenSize,
    intermediateSize,
    numExperts: 1,
    topK: 1,
    scoringFunc: 'softmax',
    normTopkProb: false,
  }
  const weights = { router: { weight: new Float32Array(hiddenSize) }, experts: [expert] }
  // The weights were widened to f32 on the way; `auto` means the checkpoint's own dtype, as it does for the sparse layers.
  const dtype = options.dtype === undefined || options.dtype === 'auto' ? 'bf16' : options.dtype
  return MoeLayer.create(config, weights, { ...options, dtype })
}

export async function loadDense(
  source: TensorSource,
  layer: number,
  hiddenSize: number,
  intermediateSize: number,
  options: FeedForwardOptions,
): Promise<MoeLayer> {
  const expert = await readMlp(source, denseName(layer), hiddenSize, intermediateSize)
  return createDense(hiddenSize, intermediateSize, expert, options)
}
