/**
 * A model of one layer for node-llama-cpp, whose logits show what its experts give: attention's output is nothing, the norms have weights
 * of 1, and the matrix behind the last norm is the identity. With h the embedding of a token and y what the experts make of norm(h), its
 * logits are norm(h + y).
 */

import { Random } from '../cases/random.js'
import { type GgufFile, type GgufTensor, ggufValue } from '../helpers/gguf-writer.js'

export const EPSILON = 1e-6
const HEADS = 2
const LATENT_HEAD_SIZE = 16
const ROPE_SIZE = 8
const LORA_RANK = 16

/** What an architecture has instead of attention alone, as llama.cpp names it. */
export type Attention = 'plain' | 'with biases' | 'normed heads' | 'normed rows' | 'latent' | 'with sinks'

export interface Surroundings {
  architecture: string
  attention: Attention
  /** The norm before the experts where it is no ffn_norm. */
  norm?: 'post_attention_norm'
  hiddenSize: number
  /** Keys without the architecture before them. */
  metadata: Readonly<Record<string, Parameters<typeof ggufValue>[0] | undefined>>
  /** The tensors of its experts and router. */
  layer: readonly GgufTensor[]
}

const bytesOf = (values: Float32Array) => new Uint8Array(values.buffer, values.byteOffset, values.byteLength)

const f32 = (name: string, shape: readonly number[], values: Float32Array): GgufTensor => ({
  ...{ name, type: 'F32', shape },
  data: bytesOf(values),
})

const filled = (name: string, shape: readonly number[], value: number) =>
  f32(name, shape, new Float32Array(shape.reduce((product, length) => product * length, 1)).fill(value))

/** Some architectures have as many rows in all heads as columns. */
const headSizeOf = (attention: Attention, hiddenSize: number) =>
  attention === 'latent' ? LATENT_HEAD_SIZE : hiddenSize / HEADS

function attentionTensors(attention: Attention, hiddenSize: number, random: Random): GgufTensor[] {
  const headSize = headSizeOf(attention, hiddenSize)
  const rows = HEADS * headSize
  const one = (name: string, ...shape: number[]) => filled(`blk.0.${name}.weight`, shape, 1)
  const drawn = (name: string, ...shape: number[]) =>
    f32(
      `blk.0.${name}.weight`,
      shape,
      random.normals(
        shape.reduce((a, b) => a * b, 1),
        0.1,
      ),
    )
  const nothing = (cols: number) => filled('blk.0.attn_output.weight', [hiddenSize, cols], 0)
  if (attention === 'latent') {
    return [
      ...[one('attn_q_a_norm', LORA_RANK), one('attn_kv_a_norm', LORA_RANK)],
      ...[drawn('attn_q_a', LORA_RANK, hiddenSize), drawn('attn_q_b', rows, LORA_RANK)],
      drawn('attn_kv_a_mqa', LORA_RANK + ROPE_SIZE, hiddenSize),
      drawn('attn_k_b', HEADS, LORA_RANK, headSize - ROPE_SIZE),
      drawn('attn_v_b', HEADS, headSize, LORA_RANK),
      nothing(rows),
    ]
  }
  const tensors = [
    ...['attn_q', 'attn_k', 'attn_v'].map(name => drawn(name, rows, hiddenSize)),
    nothing(rows),
  ]
  const norms = (length: number) => ['attn_q_norm', 'attn_k_norm'].map(name => one(name, length))
  if (attention === 'normed heads') tensors.push(...norms(headSize))
  if (attention === 'normed rows') tensors.push(...norms(rows))
  if (attention === 'with biases' || attention === 'with sinks') {
    for (const name of ['attn_q', 'attn_k', 'attn_v']) tensors.push(filled(`blk.0.${name}.bias`, [rows], 0))
  }
  if (attention === 'with sinks')
    tensors.push(filled('blk.0.attn_output.bias', [hiddenSize], 0), one('attn_sinks', HEADS))
  return tensors
}

const LATENT = {
  'attention.head_count_kv': 1,
  'attention.key_length': LORA_RANK + ROPE_SIZE,
  'attention.value_length': LORA_RANK,
  'attention.key_length_mla': LATENT_HEAD_SIZE,
  'attention.value_length_mla': LATENT_HEAD_SIZE,
  'attention.q_lora_rank': LORA_RANK,
  'attention.kv_lora_rank': LORA_RANK,
  'rope.dimension_count': ROPE_SIZE,
}

/**
 * The file, and the embeddings `[hiddenSize, hiddenSize]`: there are as many tokens as columns.
 * @param scale of the embeddings
 */
export function modelAround(of: Surroundings, scale: number): { file: GgufFile; embeddings: Float32Array } {
  const { architecture, attention, hiddenSize, metadata, layer } = of
  const headSize = headSizeOf(attention, hiddenSize)
  const random = new Random(3)
  const embeddings = random.normals(hiddenSize * hiddenSize, scale)
  const identity = Float32Array.from({ length: hiddenSize * hiddenSize }, (_, at) =>
    at % (hiddenSize + 1) === 0 ? 1 : 0,
  )
  const keys = {
    ...{ block_count: 1, context_length: 128, embedding_length: hiddenSize, vocab_size: hiddenSize },
    ...{ 'attention.head_count': HEADS, 'attention.head_count_kv': HEADS },
    ...{ 'attention.key_length': headSize, 'attention.value_length': headSize },
    ...{ 'rope.dimension_count': headSize, leading_dense_block_count: 0, interleave_moe_layer_step: 1 },
    ...(attention === 'latent' && LATENT),
    ...(attention === 'with sinks' && { 'attention.sliding_window': 16 }),
    ...metadata,
    ...{ leading_dense_block_count: 0, interleave_moe_layer_step: 1 },
    ...{ 'attention.layer_norm_rms_epsilon': EPSILON, 'rope.freq_base': 10_000 },
  }
  const isFloat = (key: string) => /[._](scale|epsilon|base)$/.test(key)
  const stated = Object.entries(keys).flatMap(([key, value]) =>
    value === undefined
      ? []
      : [
          [
            `${architecture}.${key}`,
            isFloat(key) ? { type: 6, bytes: bytesOf(Float32Array.of(Number(value))) } : ggufValue(value),
          ] as const,
        ],
  )
  const shape = [hiddenSize, hiddenSize]
  const file: GgufFile = {
    keys: [
      ['general.architecture', ggufValue(architecture)],
      ...stated,
      // Never used, for calls are given ids; but node-llama-cpp asks the tokenizer for its special tokens.
      ['tokenizer.ggml.model', ggufValue('gpt2')],
      ['tokenizer.ggml.pre', ggufValue('default')],
      ['tokenizer.ggml.tokens', ggufValue(Array.from({ length: hiddenSize }, (_, id) => `token${id}`))],
      ['tokenizer.ggml.merges', ggufValue(['t o'])],
      ['tokenizer.ggml.bos_token_id', ggufValue(0)],
      ['tokenizer.ggml.eos_token_id', ggufValue(1)],
    ],
    tensors: [
      f32('token_embd.weight', shape, embeddings),
      filled('output_norm.weight', [hiddenSize], 1),
      f32('output.weight', shape, identity),
      filled('blk.0.attn_norm.weight', [hiddenSize], 1),
      filled(`blk.0.${of.norm ?? 'ffn_norm'}.weight`, [hiddenSize], 1),
      ...attentionTensors(attention, hiddenSize, random),
      ...layer,
    ],
  }
  return { file, embeddings }
}

/** A row over its root mean square, as the norms of these models have it. */
export function normed(row: Float32Array): Float32Array {
  let squares = 0
  for (const value of row) squares += value * value
  const factor = 1 / Math.sqrt(squares / row.length + EPSILON)
  return row.map(value => value * factor)
}
