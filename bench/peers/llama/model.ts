/** A whole model of random weights around a layer's shape, for node-llama-cpp, which takes no less. */

import { Random } from '../../../test/cases/random.js'
import { fromFloat32, type MoeConfig } from '../../harness/package.js'
import { type GgufTensor, type GgufValue, writeGguf } from './gguf.js'

/** Small, for what the model does before and after its layers is the same with one layer and with three. */
export const VOCABULARY = 512
const HEAD_SIZE = 128
const HEADS = 4
/** A prime, so that no row begins where another does. */
const POOL_LENGTH = 65_537

/** Of the architecture that llama.cpp calls qwen3moe: softmax, top-k, renormalised, as the peers' layer. Matrices in bf16. */
export function writeModel(file: string, { hiddenSize, ...config }: MoeConfig, numLayers: number): void {
  const { intermediateSize, numExperts, topK } = config
  const metadata: Record<string, GgufValue> = {
    'general.architecture': 'qwen3moe',
    'qwen3moe.block_count': { uint32: numLayers },
    'qwen3moe.context_length': { uint32: 4096 },
    'qwen3moe.embedding_length': { uint32: hiddenSize },
    'qwen3moe.feed_forward_length': { uint32: intermediateSize },
    'qwen3moe.expert_feed_forward_length': { uint32: intermediateSize },
    'qwen3moe.expert_count': { uint32: numExperts },
    'qwen3moe.expert_used_count': { uint32: topK },
    'qwen3moe.attention.head_count': { uint32: HEADS },
    'qwen3moe.attention.head_count_kv': { uint32: 1 },
    'qwen3moe.attention.key_length': { uint32: HEAD_SIZE },
    'qwen3moe.attention.value_length': { uint32: HEAD_SIZE },
    'qwen3moe.attention.layer_norm_rms_epsilon': { float32: 1e-6 },
    'qwen3moe.rope.freq_base': { float32: 1e6 },
    'qwen3moe.vocab_size': { uint32: VOCABULARY },
    // Never used, for calls are given ids; but node-llama-cpp asks the tokenizer for its special tokens.
    'tokenizer.ggml.model': 'gpt2',
    'tokenizer.ggml.pre': 'default',
    'tokenizer.ggml.tokens': Array.from({ length: VOCABULARY }, (_, id) => `token${id}`),
    'tokenizer.ggml.merges': ['t o'],
    'tokenizer.ggml.bos_token_id': { uint32: 0 },
    'tokenizer.ggml.eos_token_id': { uint32: 1 },
  }
  const random = new Random(11)
  const norm = (name: string, length: number): GgufTensor => ({
    ...{ name, type: 'f32', dims: [length] },
    parts: () => [new Float32Array(length).fill(1)],
  })
  const matrix = (name: string, dims: readonly number[], type: 'f32' | 'bf16' = 'bf16'): GgufTensor => {
    const floats = random.normals(POOL_LENGTH, dims[0]! ** -0.5)
    const pool = type === 'f32' ? floats : fromFloat32(floats, 'bf16')
    const length = dims.reduce((a, b) => a * b, 1)
    return { name, type, dims, parts: () => runsOf(pool, length, random) }
  }
  const layerTensors = (layer: number): GgufTensor[] => {
    const at = (name: string) => `blk.${layer}.${name}.weight`
    return [
      norm(at('attn_norm'), hiddenSize),
      matrix(at('attn_q'), [hiddenSize, HEADS * HEAD_SIZE]),
      matrix(at('attn_k'), [hiddenSize, HEAD_SIZE]),
      matrix(at('attn_v'), [hiddenSize, HEAD_SIZE]),
      matrix(at('attn_output'), [HEADS * HEAD_SIZE, hiddenSize]),
      norm(at('attn_q_norm'), HEAD_SIZE),
      norm(at('attn_k_norm'), HEAD_SIZE),
      norm(at('ffn_norm'), hiddenSize),
      matrix(at('ffn_gate_inp'), [hiddenSize, numExperts], 'f32'),
      matrix(at('ffn_gate_exps'), [hiddenSize, intermediateSize, numExperts]),
      matrix(at('ffn_up_exps'), [hiddenSize, intermediateSize, numExperts]),
      matrix(at('ffn_down_exps'), [intermediateSize, hiddenSize, numExperts]),
    ]
  }
  writeGguf(file, metadata, [
    matrix('token_embd.weight', [hiddenSize, VOCABULARY]),
    norm('output_norm.weight', hiddenSize),
    matrix('output.weight', [hiddenSize, VOCABULARY]),
    ...Array.from({ length: numLayers }, (_, layer) => layerTensors(layer)).flat(),
  ])
}

/** How much of a layer's weights that a token meets are its experts' and its router's; the rest is attention. */
export function layerWeights({ hiddenSize, intermediateSize, numExperts, topK }: MoeConfig): {
  expertShare: number
} {
  // The router is in f32.
  const experts = 3 * topK * hiddenSize * intermediateSize + 2 * numExperts * hiddenSize
  const attention = hiddenSize * HEAD_SIZE * (2 * HEADS + 2)
  return { expertShare: experts / (experts + attention) }
}

/** Runs of a pool from random places: millions of normal numbers take long to draw. */
function* runsOf(pool: Float32Array | Uint16Array, length: number, random: Random) {
  for (let at = 0; at < length; ) {
    const start = random.integer(pool.length)
    const run = pool.subarray(start, start + length - at)
    yield run
    at += run.length
  }
}
