/**
 * Writes one MoE layer (and a dense one before it) in the layout that DeepSeek-V3 is published in: config.json, sharded safetensors with
 * an index, F8_E4M3 weights with an f32 `weight_scale_inv` per 128×128 block, a bf16 router and an f32 selection bias. Weights are random.
 */

import { mkdir, writeFile } from 'node:fs/promises'
import path from 'node:path'
import { numberToBf16 } from '../../lib/block/dtype.js'
import { type WritableTensor, writeShardedSafetensors } from '../../lib/checkpoint/writer.js'

/** Sizes of the checkpoint, in the words of its config.json. */
export interface CheckpointShape {
  hiddenSize: number
  /** Of one expert; a multiple of 128 is not needed. */
  moeIntermediateSize: number
  numExperts: number
  topK: number
  numGroups: number
  topkGroup: number
  /** Of the dense layer 0. */
  intermediateSize: number
  numShards: number
}

/** Blocks that share a scale. */
const BLOCK = 128
/** Largest F8_E4M3 value. */
const E4M3_MAX = 448

/** The config.json of such a checkpoint; `overrides` replace fields. */
export function checkpointConfig(
  shape: CheckpointShape,
  overrides: Record<string, unknown> = {},
): Record<string, unknown> {
  return {
    architectures: ['DeepseekV3ForCausalLM'],
    model_type: 'deepseek_v3',
    torch_dtype: 'bfloat16',
    hidden_size: shape.hiddenSize,
    num_hidden_layers: 2,
    hidden_act: 'silu',
    intermediate_size: shape.intermediateSize,
    moe_intermediate_size: shape.moeIntermediateSize,
    n_routed_experts: shape.numExperts,
    n_shared_experts: 1,
    num_experts_per_tok: shape.topK,
    n_group: shape.numGroups,
    topk_group: shape.topkGroup,
    topk_method: 'noaux_tc',
    scoring_func: 'sigmoid',
    norm_topk_prob: true,
    routed_scaling_factor: 2.5,
    first_k_dense_replace: 1,
    moe_layer_freq: 1,
    vocab_size: 129280,
    quantization_config: {
      quant_method: 'fp8',
      fmt: 'e4m3',
      activation_scheme: 'dynamic',
      weight_block_size: [BLOCK, BLOCK],
    },
    ...overrides,
  }
}

/** How many of the experts' bytes are made. */
export type WriteProgress = (progress: { loadedBytes: number; totalBytes: number }) => void

/** Writes the checkpoint into `directory`, which is made. */
export async function writeCheckpoint(
  directory: string,
  shape: CheckpointShape,
  onProgress: WriteProgress = () => {},
): Promise<void> {
  await mkdir(directory, { recursive: true })
  const { hiddenSize, moeIntermediateSize, numExperts } = shape
  const random = gaussianSource(20260101)
  const shards: WritableTensor[][] = Array.from({ length: shape.numShards }, () => [])
  // Weights of a mean-preserving scale: each matmul keeps the size of what it multiplies.
  const linear = (shard: number, name: string, rows: number, cols: number) => {
    shards[shard]!.push(...quantizedLinear(name, rows, cols, random, 1 / Math.sqrt(cols)))
  }
  const mlp = (shard: number, prefix: string, width: number) => {
    linear(shard, `${prefix}.gate_proj`, width, hiddenSize)
    linear(shard, `${prefix}.up_proj`, width, hiddenSize)
    linear(shard, `${prefix}.down_proj`, hiddenSize, width)
  }
  mlp(0, 'model.layers.0.mlp', shape.intermediateSize)
  const prefix = 'model.layers.1.mlp'
  shards[0]!.push(
    {
      name: `${prefix}.gate.weight`,
      dtype: 'BF16',
      shape: [numExperts, hiddenSize],
      data: Uint16Array.from({ length: numExperts * hiddenSize }, () =>
        numberToBf16(random() / Math.sqrt(hiddenSize)),
      ),
    },
    {
      name: `${prefix}.gate.e_score_correction_bias`,
      dtype: 'F32',
      shape: [numExperts],
      data: Float32Array.from({ length: numExperts }, () => 0.02 * random()),
    },
  )
  mlp(0, `${prefix}.shared_experts`, moeIntermediateSize)
  const expertBytes = 3 * hiddenSize * moeIntermediateSize
  for (let expert = 0; expert < numExperts; expert++) {
    mlp(
      Math.floor((expert * shape.numShards) / numExperts),
      `${prefix}.experts.${expert}`,
      moeIntermediateSize,
    )
    onProgress({ loadedBytes: (expert + 1) * expertBytes, totalBytes: numExperts * expertBytes })
    // Lets the progress bar draw.
    if (expert % 8 === 7) await new Promise(resolve => setImmediate(resolve))
  }
  await writeShardedSafetensors(directory, shards)
  await writeFile(
    path.join(directory, 'config.json'),
    `${JSON.stringify(checkpointConfig(shape), null, 2)}\n`,
  )
}

function quantizedLinear(
  name: string,
  rows: number,
  cols: number,
  random: () => number,
  scale: number,
): WritableTensor[] {
  const values = new Float32Array(rows * cols)
  for (let i = 0; i < values.length; i++) values[i] = scale * random()
  const { data, scales } = quantizeBlocks(values, rows, cols)
  return [
    { name: `${name}.weight`, dtype: 'F8_E4M3', shape: [rows, cols], data },
    {
      name: `${name}.weight_scale_inv`,
      dtype: 'F32',
      shape: [Math.ceil(rows / BLOCK), Math.ceil(cols / BLOCK)],
      data: scales,
    },
  ]
}

/**
 * Quantises a row-major `[rows, cols]` matrix: per 128×128 block (smaller at the right and lower edge) `scale = amax / 448`, elements
 * `value / scale` rounded to the nearest F8_E4M3. Decoding multiplies by the scale.
 */
export function quantizeBlocks(
  values: Float32Array,
  rows: number,
  cols: number,
): { data: Uint8Array; scales: Float32Array } {
  const blockCols = Math.ceil(cols / BLOCK)
  const scales = new Float32Array(Math.ceil(rows / BLOCK) * blockCols)
  for (let row = 0; row < rows; row++) {
    const base = Math.floor(row / BLOCK) * blockCols
    for (let col = 0; col < cols; col++) {
      const block = base + (col >> 7)
      const magnitude = Math.abs(values[row * cols + col]!)
      if (magnitude > scales[block]!) scales[block] = magnitude
    }
  }
  for (let block = 0; block < scales.length; block++) scales[block] = scales[block]! / E4M3_MAX || 1
  const data = new Uint8Array(values.length)
  for (let row = 0; row < rows; row++) {
    const base = Math.floor(row / BLOCK) * blockCols
    for (let col = 0; col < cols; col++) {
      const at = row * cols + col
      data[at] = numberToE4m3(values[at]! / scales[base + (col >> 7)]!)
    }
  }
  return { data, scales }
}

const f32 = new Float32Array(1)
const u32 = new Uint32Array(f32.buffer)

/** Rounds to the nearest F8_E4M3 (no infinity, largest 448), ties to even, larger magnitudes to ±448. Returns the byte. */
export function numberToE4m3(value: number): number {
  if (Number.isNaN(value)) return 0x7f
  f32[0] = value
  const bits = u32[0]!
  const sign = (bits >>> 24) & 0x80
  const magnitude = Math.abs(f32[0]!)
  if (magnitude >= E4M3_MAX) return sign | 0x7e
  if (magnitude < 2 ** -6) {
    // Subnormal: multiples of 2^-9. Adding and taking away 2^52 rounds a double to an integer, ties to even.
    return sign | (magnitude * 512 + 2 ** 52 - 2 ** 52)
  }
  // Normal: keep three bits of the f32 mantissa; a carry runs into the exponent, whose bias goes from 127 to 7.
  const absolute = bits & 0x7fffffff
  const rounded = (absolute + 0x7ffff + ((absolute >>> 20) & 1)) >>> 20
  return sign | (rounded - ((127 - 7) << 3))
}

/** Approximately standard normal numbers from a seed: the sum of the four bytes of a xorshift word. */
function gaussianSource(seed: number): () => number {
  let state = seed | 1
  // A byte is uniform on 0 … 255: mean 127.5, variance (256² − 1) / 12.
  const deviation = Math.sqrt((4 * (256 ** 2 - 1)) / 12)
  return () => {
    state ^= state << 13
    state ^= state >>> 17
    state ^= state << 5
    const sum = (state & 255) + ((state >>> 8) & 255) + ((state >>> 16) & 255) + (state >>> 24)
    return (sum - 510) / deviation
  }
}
