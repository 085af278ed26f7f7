/** A small GGUF file with a layer of experts, which tests change in one place or another. */

import { loadMatrices } from '../../lib/checkpoint/load/matrices.js'
import { planLayer } from '../../lib/checkpoint/plan/layer.js'
import { dense, keysOf, type Metadata, writeGguf } from '../golden/gguf-layer.js'
import type { GgufFile, GgufTensor } from './gguf-writer.js'

/** Experts, those of a token, hidden size and intermediate size. */
export const [E, K, H, I] = [3, 2, 64, 32]

/** Values that f32 holds exactly. */
export const floats = (count: number, from = 0) =>
  Float32Array.from({ length: count }, (_, i) => Math.fround((from + i) / 8 - 3))
export const bytesOf = (values: ArrayBufferView) =>
  new Uint8Array(values.buffer, values.byteOffset, values.byteLength)
/** A tensor of {@link floats}. */
export const f32 = (name: string, shape: readonly number[], from = 0): GgufTensor => ({
  ...{ name, type: 'F32', shape },
  data: bytesOf(
    floats(
      shape.reduce((product, length) => product * length, 1),
      from,
    ),
  ),
})

/** The keys of the sizes. */
export const SIZES: Metadata = {
  block_count: 2,
  embedding_length: H,
  expert_count: E,
  expert_used_count: K,
  expert_feed_forward_length: I,
}

/** Router and experts. */
export const experts = (layer = 0): GgufTensor[] => [
  f32(`blk.${layer}.ffn_gate_inp.weight`, [E, H]),
  f32(`blk.${layer}.ffn_gate_exps.weight`, [E, I, H], 1),
  f32(`blk.${layer}.ffn_up_exps.weight`, [E, I, H], 2),
  f32(`blk.${layer}.ffn_down_exps.weight`, [E, H, I], 3),
]

/** A file of Qwen3's architecture unless another is named. */
export function model(
  tensors: readonly GgufTensor[] = experts(),
  metadata: Metadata = {},
  architecture = 'qwen3moe',
): GgufFile {
  return { keys: keysOf(architecture, { ...SIZES, ...metadata }), tensors }
}

/** The plan of a written file. */
export const plan = (file: GgufFile, options: Parameters<typeof planLayer>[1] = {}) =>
  planLayer(writeGguf(file), options)

/** Its matrices by expert, in f32. */
export async function matricesOf(file: GgufFile) {
  const planned = await plan(file)
  const { experts: loaded, shared } = await loadMatrices(planned, 'f32')
  const read = (matrix: 'gate' | 'up' | 'down', rows: number, cols: number) =>
    loaded.map(expert => dense(expert[matrix]!, rows, cols))
  return { planned, shared, gate: read('gate', I, H), up: read('up', I, H), down: read('down', H, I) }
}
