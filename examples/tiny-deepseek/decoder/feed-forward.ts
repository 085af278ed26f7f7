/**
 * The feed-forward of a layer, always through the package: sparse layers as `MoeLayer.load` reads them, dense ones as a layer of a single
 * expert whose softmax weight is 1. Sparse and dense then run on the same kernels in the same precision, and can be compared.
 */

import { type DeviceOption, type DType, type MoeConfig, MoeLayer } from 'sparse-experts'
import type { TensorSource } from './checkpoint.js'

/** Where and how the feed-forwards run. */
export interface FeedForwardOptions {
  device?: DeviceOption
  dtype?: 'auto' | DType
  threads?: number
}

/** A dense feed-forward down(silu(gate x) · up x) as a layer of one expert. */
export async function loadDense(
  source: TensorSource,
  layer: number,
  hiddenSize: number,
  intermediateSize: number,
  options: FeedForwardOptions,
): Promise<MoeLayer> {
  const read = (name: string, rows: number, columns: number) =>
    source.read(`model.layers.${layer}.mlp.${name}.weight`, [rows, columns])
  const config: MoeConfig = {
    hiddenSize,
    intermediateSize,
    numExperts: 1,
    topK: 1,
    scoringFunc: 'softmax',
    normTopkProb: false,
  }
  const expert = {
    gate: await read('gate_proj', intermediateSize, hiddenSize),
    up: await read('up_proj', intermediateSize, hiddenSize),
    down: await read('down_proj', hiddenSize, intermediateSize),
  }
  const weights = { router: { weight: new Float32Array(hiddenSize) }, experts: [expert] }
  // The weights were widened to f32 on the way; `auto` means the checkpoint's own dtype, as it does for the sparse layers.
  const dtype = options.dtype === undefined || options.dtype === 'auto' ? 'bf16' : options.dtype
  return MoeLayer.create(config, weights, { ...options, dtype })
}
