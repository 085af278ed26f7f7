/** One layer of random weights as a checkpoint on disk, so that loading can be timed. */

import { mkdirSync, writeFileSync } from 'node:fs'
import path from 'node:path'
import { type WritableTensor, writeSafetensors } from '../../lib/checkpoint/writer.js'
import type { DType, ExpertWeights } from '../harness/package.js'
import { type BenchShape, sharedSize } from '../harness/shapes.js'
import { makeBenchWeights } from '../harness/weights.js'

const STORED: Record<DType, string> = { f32: 'F32', bf16: 'BF16', f16: 'F16' }

export interface WrittenCheckpoint {
  directory: string
  files: string[]
  /** Of the layer's tensors. */
  weightBytes: number
}

/** As DeepSeek-V2 names its tensors: the one family here whose layers may have shared experts. */
export async function writeCheckpoint(
  { name, config }: BenchShape,
  dtype: Exclude<DType, 'f32'>,
  directory: string,
): Promise<WrittenCheckpoint> {
  const { hiddenSize, intermediateSize, numExperts, topK, numSharedExperts = 0 } = config
  const { weights } = makeBenchWeights({ name, config }, dtype)
  const tensor = (tensorName: string, rows: number, cols: number, data: unknown, stored: string) => ({
    ...{ name: `model.layers.0.mlp.${tensorName}.weight`, dtype: stored, shape: [rows, cols] },
    data: data as ArrayBufferView,
  })
  const expert = (prefix: string, width: number, { gate, up, down }: ExpertWeights): WritableTensor[] => [
    tensor(`${prefix}.gate_proj`, width, hiddenSize, gate, STORED[dtype]),
    tensor(`${prefix}.up_proj`, width, hiddenSize, up, STORED[dtype]),
    tensor(`${prefix}.down_proj`, hiddenSize, width, down, STORED[dtype]),
  ]
  const tensors = [
    tensor('gate', numExperts, hiddenSize, weights.router!.weight, 'F32'),
    ...weights.experts.flatMap((one, e) => expert(`experts.${e}`, intermediateSize, one)),
    ...(weights.shared ? expert('shared_experts', sharedSize(config), weights.shared) : []),
  ]
  mkdirSync(directory, { recursive: true })
  const file = path.join(directory, 'model.safetensors')
  await writeSafetensors(file, tensors)
  const described = {
    ...{ model_type: 'deepseek_v2', hidden_size: hiddenSize, num_hidden_layers: 1, hidden_act: 'silu' },
    ...{ intermediate_size: intermediateSize, moe_intermediate_size: intermediateSize },
    ...{
      n_routed_experts: numExperts,
      n_shared_experts: numSharedExperts || null,
      num_experts_per_tok: topK,
    },
    ...{ topk_method: 'greedy', n_group: 1, topk_group: 1, routed_scaling_factor: 1, norm_topk_prob: false },
    ...{ scoring_func: 'softmax', first_k_dense_replace: 0, moe_layer_freq: 1 },
  }
  writeFileSync(path.join(directory, 'config.json'), JSON.stringify(described))
  return {
    directory,
    files: [file],
    weightBytes: tensors.reduce((sum, { data }) => sum + data.byteLength, 0),
  }
}
