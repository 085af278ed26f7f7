/** The part of a DeepSeek-V3 `config.json` that lies outside of the MoE blocks; those read their own part at load. */

import { readFile } from 'node:fs/promises'
import path from 'node:path'

/** Sizes of the decoder, in the field's names. */
export interface DecoderConfig {
  vocabSize: number
  hiddenSize: number
  numLayers: number
  /** Layers before this one have a dense feed-forward. */
  firstSparseLayer: number
  numHeads: number
  /** Of a head's query and key: the part without and the part with position. */
  qkNopeHeadDim: number
  qkRopeHeadDim: number
  vHeadDim: number
  kvLoraRank: number
  rmsNormEps: number
  ropeTheta: number
  maxPositions: number
}

/**
 * @param directory of the checkpoint
 * @throws Error where a field is missing, or has a value that this decoder does not compute
 */
export async function readDecoderConfig(directory: string): Promise<DecoderConfig> {
  const file = path.join(directory, 'config.json')
  const fields = JSON.parse(await readFile(file, 'utf8')) as Record<string, unknown>
  const number = (name: string): number => {
    const value = fields[name]
    if (typeof value !== 'number' || !(value >= 0)) throw new Error(`${file}: '${name}' is not a number`)
    return value
  }
  const only = (name: string, expected: unknown) => {
    const value = fields[name] ?? null
    if (value !== expected)
      throw new Error(
        `${file}: '${name}' is ${JSON.stringify(value)}; this decoder computes ${JSON.stringify(expected)} alone`,
      )
  }
  only('model_type', 'deepseek_v3')
  only('q_lora_rank', null)
  only('rope_scaling', null)
  only('rope_interleave', true)
  only('attention_bias', false)
  only('tie_word_embeddings', false)
  return {
    vocabSize: number('vocab_size'),
    hiddenSize: number('hidden_size'),
    numLayers: number('num_hidden_layers'),
    firstSparseLayer: number('first_k_dense_replace'),
    numHeads: number('num_attention_heads'),
    qkNopeHeadDim: number('qk_nope_head_dim'),
    qkRopeHeadDim: number('qk_rope_head_dim'),
    vHeadDim: number('v_head_dim'),
    kvLoraRank: number('kv_lora_rank'),
    rmsNormEps: number('rms_norm_eps'),
    ropeTheta: number('rope_theta'),
    maxPositions: number('max_position_embeddings'),
  }
}
