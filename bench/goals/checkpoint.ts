/** Layers of random weights as a checkpoint on disk, so that loading can be timed: safetensors, or GGUF for ggml's types. */

import { mkdirSync, readdirSync, writeFileSync } from 'node:fs'
import path from 'node:path'
import {
  type WritableTensor,
  writeSafetensors,
  writeShardedSafetensors,
} from '../../lib/checkpoint/writer.js'
import { type GgufTensor, writeGguf } from '../harness/gguf-writer.js'
import type { DType, ExpertWeights, MoeWeights, QuantizedMatrix } from '../harness/package.js'
import { type BenchShape, sharedSize } from '../harness/shapes.js'
import { FP8_BLOCK, ggmlTypeOf, isStoredForm, type WeightKind } from '../harness/weight-kinds.js'
import { makeBenchWeights } from '../harness/weights.js'

const STORED: Record<DType, string> = { f32: 'F32', bf16: 'BF16', f16: 'F16' }

export interface WrittenCheckpoint {
  /** What `MoeLayer.load` takes. */
  source: string
  files: string[]
  /** Of the layer's tensors. */
  weightBytes: number
}

/** Kinds of weights that checkpoints have; nobody publishes experts in f32. */
export type PublishedKind = Exclude<WeightKind, 'f32'>

export async function writeCheckpoint(
  shape: BenchShape,
  kind: PublishedKind,
  directory: string,
): Promise<WrittenCheckpoint> {
  const { weights } = makeBenchWeights(shape, kind)
  mkdirSync(directory, { recursive: true })
  return isStoredForm(kind) && kind !== 'fp8'
    ? writeGgufLayer(shape, weights, kind, path.join(directory, 'model.gguf'))
    : writeDirectory(shape, weights, kind, directory)
}

/** Layers with the same weights, each in a file of its own. */
export async function writeLayers(
  shape: BenchShape,
  kind: DType | 'fp8',
  directory: string,
  numLayers: number,
): Promise<WrittenCheckpoint> {
  const { weights } = makeBenchWeights(shape, kind)
  return writeDirectory(shape, weights, kind, directory, numLayers)
}

/** As DeepSeek-V2 names its tensors: the one family here whose layers may have shared experts. */
async function writeDirectory(
  { config }: BenchShape,
  weights: MoeWeights,
  kind: DType | 'fp8',
  directory: string,
  numLayers = 1,
): Promise<WrittenCheckpoint> {
  const { hiddenSize, intermediateSize, numExperts, topK, numSharedExperts = 0 } = config
  let layer = 0
  const matrix = (name: string, rows: number, cols: number, data: unknown): WritableTensor[] => {
    const named = `model.layers.${layer}.mlp.${name}.weight`
    if (kind !== 'fp8')
      return [{ name: named, dtype: STORED[kind], shape: [rows, cols], data: data as ArrayBufferView }]
    const { data: codes, scales } = data as QuantizedMatrix
    const grid = [rows, cols].map(length => Math.ceil(length / FP8_BLOCK))
    return [
      { name: `${named}_scale_inv`, dtype: 'F32', shape: grid, data: scales! },
      { name: named, dtype: 'F8_E4M3', shape: [rows, cols], data: codes },
    ]
  }
  const expert = (prefix: string, width: number, { gate, up, down }: ExpertWeights): WritableTensor[] => [
    ...matrix(`${prefix}.gate_proj`, width, hiddenSize, gate),
    ...matrix(`${prefix}.up_proj`, width, hiddenSize, up),
    ...matrix(`${prefix}.down_proj`, hiddenSize, width, down),
  ]
  const tensorsOfLayer = (): WritableTensor[] => [
    {
      ...{ name: `model.layers.${layer}.mlp.gate.weight`, dtype: 'F32', shape: [numExperts, hiddenSize] },
      data: weights.router.weight as Float32Array,
    },
    ...weights.experts.flatMap((one, e) => expert(`experts.${e}`, intermediateSize, one)),
    ...(weights.shared ? expert('shared_experts', sharedSize(config), weights.shared) : []),
  ]
  const layers: WritableTensor[][] = []
  for (; layer < numLayers; layer++) layers.push(tensorsOfLayer())
  if (numLayers === 1) await writeSafetensors(path.join(directory, 'model.safetensors'), layers[0]!)
  else await writeShardedSafetensors(directory, layers)
  const described = {
    ...{
      model_type: 'deepseek_v2',
      hidden_size: hiddenSize,
      num_hidden_layers: numLayers,
      hidden_act: 'silu',
    },
    ...{ intermediate_size: intermediateSize, moe_intermediate_size: intermediateSize },
    ...{
      n_routed_experts: numExperts,
      n_shared_experts: numSharedExperts || null,
      num_experts_per_tok: topK,
    },
    ...{ topk_method: 'greedy', n_group: 1, topk_group: 1, routed_scaling_factor: 1, norm_topk_prob: false },
    ...{ scoring_func: 'softmax', first_k_dense_replace: 0, moe_layer_freq: 1 },
    ...(kind === 'fp8' && {
      quantization_config: { quant_method: 'fp8', weight_block_size: [FP8_BLOCK, FP8_BLOCK] },
    }),
  }
  writeFileSync(path.join(directory, 'config.json'), JSON.stringify(described))
  const weightBytes = layers.flat().reduce((sum, { data }) => sum + data.byteLength, 0)
  const files = readdirSync(directory).filter(name => name.endsWith('.safetensors'))
  return { source: directory, files: files.map(name => path.join(directory, name)), weightBytes }
}

/** As llama.cpp's converter writes the same family: all experts of a matrix in one tensor. */
function writeGgufLayer(
  { config }: BenchShape,
  weights: MoeWeights,
  form: Exclude<WeightKind, DType | 'fp8'>,
  file: string,
): WrittenCheckpoint {
  const { hiddenSize, intermediateSize, numExperts, topK, numSharedExperts = 0 } = config
  const { router, experts, shared } = weights
  const bytesOf = (matrix: unknown) => (matrix as QuantizedMatrix).data
  const matrices = (suffix: string, width: number, all: readonly ExpertWeights[]): GgufTensor[] =>
    (['gate', 'up', 'down'] as const).map(which => {
      const [rows, cols] = which === 'down' ? [hiddenSize, width] : [width, hiddenSize]
      return {
        name: `blk.0.ffn_${which}_${suffix}.weight`,
        type: ggmlTypeOf(form, cols),
        dims: suffix === 'exps' ? [cols, rows, all.length] : [cols, rows],
        parts: () => all.map(one => bytesOf(one[which])),
      }
    })
  const tensors: GgufTensor[] = [
    {
      ...{ name: 'blk.0.ffn_gate_inp.weight', type: 'f32', dims: [hiddenSize, numExperts] },
      parts: () => [router.weight as Float32Array],
    },
    ...matrices('exps', intermediateSize, experts),
    ...(shared ? matrices('shexp', sharedSize(config), [shared]) : []),
  ]
  writeGguf(
    file,
    {
      'general.architecture': 'deepseek2',
      'deepseek2.block_count': { uint32: 1 },
      'deepseek2.embedding_length': { uint32: hiddenSize },
      'deepseek2.feed_forward_length': { uint32: intermediateSize },
      'deepseek2.expert_feed_forward_length': { uint32: intermediateSize },
      'deepseek2.expert_count': { uint32: numExperts },
      'deepseek2.expert_used_count': { uint32: topK },
      'deepseek2.expert_shared_count': { uint32: numSharedExperts },
      'deepseek2.expert_group_count': { uint32: 1 },
      'deepseek2.expert_group_used_count': { uint32: 1 },
    },
    tensors,
  )
  const weightBytes = tensors
    .flatMap(tensor => [...tensor.parts()])
    .reduce((sum, { byteLength }) => sum + byteLength, 0)
  return { source: file, files: [file], weightBytes }
}
