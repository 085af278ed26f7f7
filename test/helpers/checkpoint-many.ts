/** A checkpoint with very many tensors and no weights: headers as a large published model has them, over data that nobody wrote. */

import { open, writeFile } from 'node:fs/promises'
import path from 'node:path'
import { CONFIG } from './checkpoint-tiny.js'

/** Sizes of the checkpoint. */
export interface ManyTensors {
  numLayers: number
  numExperts: number
  numShards: number
  /** @defaultValue 16 */
  hiddenSize?: number
  /** Of an expert. @defaultValue 8 */
  width?: number
}

const BYTES = 2

/** Writes DeepSeek-V3's names in bf16, each layer in one shard or in two, and an index; returns the number of tensors. */
export async function writeManyTensors(
  directory: string,
  { numLayers, numExperts, numShards, hiddenSize = 16, width = 8 }: ManyTensors,
): Promise<number> {
  const tensors: [name: string, shape: readonly number[]][] = []
  for (let layer = 0; layer < numLayers; layer++) {
    const block = `model.layers.${layer}.mlp.`
    const mlp = (stem: string) => {
      for (const matrix of ['gate_proj', 'up_proj'])
        tensors.push([`${block}${stem}.${matrix}.weight`, [width, hiddenSize]])
      tensors.push([`${block}${stem}.down_proj.weight`, [hiddenSize, width]])
    }
    tensors.push([`${block}gate.weight`, [numExperts, hiddenSize]])
    tensors.push([`${block}gate.e_score_correction_bias`, [1, numExperts]])
    for (let expert = 0; expert < numExperts; expert++) mlp(`experts.${expert}`)
    mlp('shared_experts')
  }
  const perShard = Math.ceil(tensors.length / numShards)
  const index: string[] = []
  for (let shard = 0; shard < numShards; shard++) {
    const name = `model-${shard}.safetensors`
    let end = 0
    const entries = tensors.slice(shard * perShard, (shard + 1) * perShard).map(([tensor, shape]) => {
      const begin = end
      end += BYTES * shape[0]! * shape[1]!
      index.push(`"${tensor}":"${name}"`)
      return `"${tensor}":{"dtype":"BF16","shape":[${shape}],"data_offsets":[${begin},${end}]}`
    })
    const header = Buffer.from(`{${entries.join(',')}}`)
    const length = Buffer.alloc(8)
    length.writeBigUInt64LE(BigInt(header.byteLength))
    const file = await open(path.join(directory, name), 'w')
    await file.writev([length, header])
    await file.truncate(8 + header.byteLength + end)
    await file.close()
  }
  await writeFile(path.join(directory, 'model.safetensors.index.json'), `{"weight_map":{${index.join(',')}}}`)
  const config = {
    ...CONFIG,
    torch_dtype: 'bfloat16',
    hidden_size: hiddenSize,
    moe_intermediate_size: width,
    num_hidden_layers: numLayers,
    num_nextn_predict_layers: 0,
    n_routed_experts: numExperts,
    first_k_dense_replace: 0,
  }
  await writeFile(path.join(directory, 'config.json'), JSON.stringify(config))
  return tensors.length
}
