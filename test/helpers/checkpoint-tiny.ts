/** A tiny DeepSeek-V3-like checkpoint on disk, to be damaged by tests. */

import { mkdtempSync, rmSync } from 'node:fs'
import { writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import path from 'node:path'
import {
  type WritableTensor,
  writeSafetensors,
  writeShardedSafetensors,
} from '../../lib/checkpoint/writer.js'
import { Random } from '../cases/random.js'

export const HIDDEN = 12
export const WIDTH = 6
export const EXPERTS = 4

/** Layer 0 dense, layers 1 and 2 sparse, layer 3 the one for multi-token prediction. */
export const CONFIG = {
  architectures: ['DeepseekV3ForCausalLM'],
  model_type: 'deepseek_v3',
  torch_dtype: 'float32',
  hidden_size: HIDDEN,
  num_hidden_layers: 3,
  num_nextn_predict_layers: 1,
  hidden_act: 'silu',
  intermediate_size: 16,
  moe_intermediate_size: WIDTH,
  n_routed_experts: EXPERTS,
  n_shared_experts: 1,
  num_experts_per_tok: 2,
  n_group: 2,
  topk_group: 1,
  routed_scaling_factor: 2.5,
  norm_topk_prob: true,
  scoring_func: 'sigmoid',
  topk_method: 'noaux_tc',
  first_k_dense_replace: 1,
}

/** Two layers of DeepSeek-V4 that choose experts by token id, without a shared expert. */
export const HASH_CONFIG = {
  model_type: 'deepseek_v4',
  hidden_size: HIDDEN,
  num_hidden_layers: 2,
  n_routed_experts: EXPERTS,
  n_shared_experts: 0,
  num_experts_per_tok: 2,
  routed_scaling_factor: 1.5,
  num_hash_layers: 2,
}

const random = new Random(7)

/** An F32 tensor of normal numbers. */
export function f32(name: string, ...shape: number[]): WritableTensor {
  const length = shape.reduce((product, size) => product * size, 1)
  return { name, dtype: 'F32', shape, data: random.normals(length) }
}

/** The tensors of one sparse layer. */
export function layerTensors(layer: number, prefix = 'model.layers.'): WritableTensor[] {
  const base = `${prefix}${layer}.mlp.`
  const glu = (stem: string) => [
    f32(`${base}${stem}.gate_proj.weight`, WIDTH, HIDDEN),
    f32(`${base}${stem}.up_proj.weight`, WIDTH, HIDDEN),
    f32(`${base}${stem}.down_proj.weight`, HIDDEN, WIDTH),
  ]
  return [
    f32(`${base}gate.weight`, EXPERTS, HIDDEN),
    f32(`${base}gate.e_score_correction_bias`, EXPERTS),
    ...Array.from({ length: EXPERTS }, (_, e) => glu(`experts.${e}`)).flat(),
    ...glu('shared_experts'),
  ]
}

/** A directory that {@link removeCheckpoints} removes. */
const directories: string[] = []

export function temporaryDirectory(): string {
  const directory = mkdtempSync(path.join(tmpdir(), 'sparse-experts-checkpoint-'))
  directories.push(directory)
  return directory
}

export function removeCheckpoints(): void {
  for (const directory of directories.splice(0)) rmSync(directory, { recursive: true, force: true })
}

/** A checkpoint of layer 0, dense, and the sparse layers 1 to 3 in two files; returns the directory. */
export const writeThreeLayers = (): Promise<string> =>
  writeCheckpoint({ ...CONFIG, num_hidden_layers: 4, num_nextn_predict_layers: 0 }, [
    [...layerTensors(1), ...layerTensors(2)],
    layerTensors(3),
  ])

/** Writes config.json and one file, or one file per list of tensors; returns the directory. */
export async function writeCheckpoint(
  config: object,
  tensors: WritableTensor[] | WritableTensor[][],
): Promise<string> {
  const directory = temporaryDirectory()
  await writeFile(path.join(directory, 'config.json'), JSON.stringify(config))
  if (Array.isArray(tensors[0])) await writeShardedSafetensors(directory, tensors as WritableTensor[][])
  else await writeSafetensors(path.join(directory, 'model.safetensors'), tensors as WritableTensor[])
  return directory
}
