/** A whole model of random weights around a layer's shape, for node-llama-cpp, which takes no less. */

import { Random } from '../../../test/cases/random.js'
import { type GgufTensor, type GgufValue, writeGguf } from '../../harness/gguf-writer.js'
import { fromFloat32, type MoeConfig } from '../../harness/package.js'
import { sharedSize } from '../../harness/shapes.js'
import { randomBlocks } from '../../harness/stored-weights.js'
import { ggmlTypeOf, type StoredForm } from '../../harness/weight-kinds.js'

/** Of the model's matrices. */
export const MODEL_FORMS = ['bf16', 'q4_0', 'q4_K', 'mxfp4', 'q8_0'] as const satisfies readonly (
  | StoredForm
  | 'bf16'
)[]
export type ModelForm = (typeof MODEL_FORMS)[number]

/** Small, for what the model does before and after its layers is the same with one layer and with three. */
export const VOCABULARY = 512
const HEAD_SIZE = 128
const HEADS = 4
/** The architecture with shared experts has as many heads as make the model's width. */
const headsOf = (config: MoeConfig) =>
  sharedSize(config) > 0 ? Math.ceil(config.hiddenSize / HEAD_SIZE) : HEADS
/** A prime, so that no row begins where another does. */
const POOL_LENGTH = 65_537

/**
 * Of the architecture that llama.cpp calls qwen3moe, or of deepseek (the first one, with plain attention) where there are shared experts:
 * softmax and top-k, renormalised in the former, as the peers' layer.
 *
 * @param form of the matrices of the layers
 */
export function writeModel(file: string, config: MoeConfig, numLayers: number, form: ModelForm): void {
  const { hiddenSize, intermediateSize, numExperts } = config
  const random = new Random(11)
  const norm = (name: string, length: number): GgufTensor => ({
    ...{ name, type: 'f32', dims: [length] },
    parts: () => [new Float32Array(length).fill(1)],
  })
  const floats = (name: string, dims: readonly number[], type: 'f32' | 'bf16'): GgufTensor => {
    const values = random.normals(POOL_LENGTH, dims[0]! ** -0.5)
    const pool = type === 'f32' ? values : fromFloat32(values, 'bf16')
    const length = dims.reduce((a, b) => a * b, 1)
    return { name, type, dims, parts: () => runsOf(pool, length, random) }
  }
  const matrix = (name: string, dims: readonly number[]): GgufTensor => {
    if (form === 'bf16') return floats(name, dims, 'bf16')
    const [cols, rows, count = 1] = dims as [number, number, number?]
    const type = ggmlTypeOf(form, cols)
    function* parts() {
      for (let one = 0; one < count; one++) yield randomBlocks(type, rows, cols, random)
    }
    return { name, type, dims, parts }
  }
  const shared = sharedSize(config)
  const heads = headsOf(config)
  const mlp = (suffix: string, width: number, all: readonly number[]): GgufTensor[] => [
    matrix(`ffn_gate_${suffix}`, [hiddenSize, width, ...all]),
    matrix(`ffn_up_${suffix}`, [hiddenSize, width, ...all]),
    matrix(`ffn_down_${suffix}`, [width, hiddenSize, ...all]),
  ]
  const layerTensors = (): GgufTensor[] => [
    norm('attn_norm', hiddenSize),
    matrix('attn_q', [hiddenSize, heads * HEAD_SIZE]),
    matrix('attn_k', [hiddenSize, HEAD_SIZE]),
    matrix('attn_v', [hiddenSize, HEAD_SIZE]),
    matrix('attn_output', [heads * HEAD_SIZE, hiddenSize]),
    ...(shared ? [] : [norm('attn_q_norm', HEAD_SIZE), norm('attn_k_norm', HEAD_SIZE)]),
    norm('ffn_norm', hiddenSize),
    floats('ffn_gate_inp', [hiddenSize, numExperts], 'f32'),
    ...mlp('exps', intermediateSize, [numExperts]),
    ...(shared ? mlp('shexp', shared, []) : []),
  ]
  writeGguf(file, metadataOf(config, numLayers), [
    floats('token_embd.weight', [hiddenSize, VOCABULARY], 'bf16'),
    norm('output_norm.weight', hiddenSize),
    floats('output.weight', [hiddenSize, VOCABULARY], 'bf16'),
    ...Array.from({ length: numLayers }, (_, layer) =>
      layerTensors().map(tensor => ({ ...tensor, name: `blk.${layer}.${tensor.name}.weight` })),
    ).flat(),
  ])
}

function metadataOf(config: MoeConfig, numLayers: number): Record<string, GgufValue> {
  const { hiddenSize, intermediateSize, numExperts, topK } = config
  const hasShared = sharedSize(config) > 0
  const architecture = hasShared ? 'deepseek' : 'qwen3moe'
  const fields: Record<string, GgufValue> = {
    block_count: { uint32: numLayers },
    context_length: { uint32: 4096 },
    embedding_length: { uint32: hiddenSize },
    feed_forward_length: { uint32: intermediateSize },
    expert_feed_forward_length: { uint32: intermediateSize },
    expert_count: { uint32: numExperts },
    expert_used_count: { uint32: topK },
    'attention.head_count': { uint32: headsOf(config) },
    'attention.head_count_kv': { uint32: 1 },
    'attention.key_length': { uint32: HEAD_SIZE },
    'attention.value_length': { uint32: HEAD_SIZE },
    'attention.layer_norm_rms_epsilon': { float32: 1e-6 },
    'rope.freq_base': { float32: 1e6 },
    'rope.dimension_count': { uint32: HEAD_SIZE },
    vocab_size: { uint32: VOCABULARY },
    ...(hasShared && {
      leading_dense_block_count: { uint32: 0 },
      expert_shared_count: { uint32: config.numSharedExperts! },
      expert_weights_scale: { float32: 1 },
    }),
  }
  return {
    'general.architecture': architecture,
    ...Object.fromEntries(
      Object.entries(fields).map(([name, value]) => [`${architecture}.${name}`, value] as const),
    ),
    // Never used, for calls are given ids; but node-llama-cpp asks the tokenizer for its special tokens.
    'tokenizer.ggml.model': 'gpt2',
    'tokenizer.ggml.pre': 'default',
    'tokenizer.ggml.tokens': Array.from({ length: VOCABULARY }, (_, id) => `token${id}`),
    'tokenizer.ggml.merges': ['t o'],
    'tokenizer.ggml.bos_token_id': { uint32: 0 },
    'tokenizer.ggml.eos_token_id': { uint32: 1 },
  }
}

/** How much of a layer's weights that a token meets are its experts' and its router's; the rest is attention. */
export function layerWeights(config: MoeConfig): { expertShare: number } {
  const { hiddenSize, intermediateSize, numExperts, topK } = config
  // The router is in f32.
  const experts =
    3 * hiddenSize * (topK * intermediateSize + sharedSize(config)) + 2 * numExperts * hiddenSize
  const attention = hiddenSize * HEAD_SIZE * (2 * headsOf(config) + 2)
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
