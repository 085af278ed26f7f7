/**
 * Multi-head latent attention, one query per token over the tokens before it.
 *
 * 1. The key and value of a token are the projection of one small vector, its latent; the cache keeps that latent (normalised) and the
 *    one rotary key that all heads share. Here that is 80 numbers per token and layer where keys and values would be 320.
 * 2. The projection is never applied to cached tokens: a head's query is multiplied by its key projection instead (q · W k = Wᵀ q · k),
 *    scores are taken between latents, and the weighted sum of latents goes through the value projection once.
 */

import type { TensorSource } from './checkpoint.js'
import type { DecoderConfig } from './config.js'
import { linear } from './linear.js'
import { rmsNorm } from './norm.js'
import type { Rotary } from './rotary.js'

/** What one layer keeps of a sequence. */
export class LatentCache {
  /** `[capacity, kvLoraRank]`, normalised. */
  latent: Float32Array
  /** `[capacity, qkRopeHeadDim]`, turned by its position. */
  ropeKey: Float32Array
  readonly #rank: number
  readonly #ropeDim: number

  constructor({ kvLoraRank, qkRopeHeadDim }: DecoderConfig) {
    this.#rank = kvLoraRank
    this.#ropeDim = qkRopeHeadDim
    this.latent = new Float32Array(0)
    this.ropeKey = new Float32Array(0)
  }

  /** Makes room for `numTokens` in all, doubling so that appending one by one stays linear. */
  reserve(numTokens: number): void {
    const capacity = this.latent.length / this.#rank
    if (numTokens <= capacity) return
    const larger = Math.max(numTokens, 2 * capacity, 64)
    this.latent = grown(this.latent, larger * this.#rank)
    this.ropeKey = grown(this.ropeKey, larger * this.#ropeDim)
  }
}

function grown(values: Float32Array, length: number): Float32Array {
  const larger = new Float32Array(length)
  larger.set(values)
  return larger
}

/** The attention of one layer. */
export class Attention {
  readonly #config: DecoderConfig
  readonly #rotary: Rotary
  readonly #weights: AttentionWeights

  private constructor(config: DecoderConfig, rotary: Rotary, weights: AttentionWeights) {
    this.#config = config
    this.#rotary = rotary
    this.#weights = weights
  }

  static async load(
    source: TensorSource,
    config: DecoderConfig,
    layer: number,
    rotary: Rotary,
  ): Promise<Attention> {
    const { hiddenSize, numHeads, qkNopeHeadDim, qkRopeHeadDim, vHeadDim, kvLoraRank } = config
    const read = (name: string, ...shape: number[]) =>
      source.read(`model.layers.${layer}.self_attn.${name}.weight`, shape)
    return new Attention(config, rotary, {
      query: await read('q_proj', numHeads * (qkNopeHeadDim + qkRopeHeadDim), hiddenSize),
      down: await read('kv_a_proj_with_mqa', kvLoraRank + qkRopeHeadDim, hiddenSize),
      norm: await read('kv_a_layernorm', kvLoraRank),
      up: await read('kv_b_proj', numHeads * (qkNopeHeadDim + vHeadDim), kvLoraRank),
      output: await read('o_proj', hiddenSize, numHeads * vHeadDim),
    })
  }

  /**
   * @param x normalised, `[numTokens, hiddenSize]`: tokens at positions `begin`, `begin + 1` … of one sequence
   * @param cache of this layer and sequence, with the tokens before `begin`; takes on the new ones
   * @returns `[numTokens, hiddenSize]`
   */
  forward(x: Float32Array, cache: LatentCache, begin: number): Float32Array {
    const { hiddenSize, numHeads, qkNopeHeadDim, qkRopeHeadDim, vHeadDim, kvLoraRank } = this.#config
    const { query, output } = this.#weights
    const numTokens = x.length / hiddenSize
    const queryDim = qkNopeHeadDim + qkRopeHeadDim
    const queries = linear(x, query, hiddenSize, numHeads * queryDim)
    this.#append(x, cache, begin)

    const heads = new Float32Array(numTokens * numHeads * vHeadDim)
    const absorbed = new Float64Array(kvLoraRank)
    const mixed = new Float64Array(kvLoraRank)
    const scores = new Float64Array(begin + numTokens)
    for (let token = 0; token < numTokens; token++) {
      const position = begin + token
      for (let head = 0; head < numHeads; head++) {
        const at = (token * numHeads + head) * queryDim
        this.#rotary.turn(queries, at + qkNopeHeadDim, position)
        this.#absorb(queries, at, head, absorbed)
        this.#weigh(absorbed, queries, at + qkNopeHeadDim, cache, position + 1, scores)
        mix(scores, cache.latent, position + 1, mixed)
        this.#project(mixed, head, heads, (token * numHeads + head) * vHeadDim)
      }
    }
    return linear(heads, output, numHeads * vHeadDim, hiddenSize)
  }

  /** Latents and rotary keys of the new tokens. */
  #append(x: Float32Array, cache: LatentCache, begin: number): void {
    const { hiddenSize, qkRopeHeadDim, kvLoraRank, rmsNormEps } = this.#config
    const width = kvLoraRank + qkRopeHeadDim
    const down = linear(x, this.#weights.down, hiddenSize, width)
    const numTokens = down.length / width
    cache.reserve(begin + numTokens)
    for (let token = 0; token < numTokens; token++) {
      const row = down.subarray(token * width, (token + 1) * width)
      const position = begin + token
      const latent = rmsNorm(row.subarray(0, kvLoraRank), this.#weights.norm, rmsNormEps)
      cache.latent.set(latent, position * kvLoraRank)
      cache.ropeKey.set(row.subarray(kvLoraRank), position * qkRopeHeadDim)
      this.#rotary.turn(cache.ropeKey, position * qkRopeHeadDim, position)
    }
  }

  /** A head's query in the latent space: Wᵀ q. */
  #absorb(queries: Float32Array, at: number, head: number, absorbed: Float64Array): void {
    const { qkNopeHeadDim, vHeadDim, kvLoraRank } = this.#config
    const { up } = this.#weights
    const first = head * (qkNopeHeadDim + vHeadDim) * kvLoraRank
    absorbed.fill(0)
    for (let n = 0; n < qkNopeHeadDim; n++) {
      const value = queries[at + n]!
      const row = first + n * kvLoraRank
      for (let i = 0; i < kvLoraRank; i++) absorbed[i]! += value * up[row + i]!
    }
  }

  /** Softmax of the scores of the first `count` tokens. */
  #weigh(
    absorbed: Float64Array,
    queries: Float32Array,
    ropeAt: number,
    cache: LatentCache,
    count: number,
    scores: Float64Array,
  ): void {
    const { qkNopeHeadDim, qkRopeHeadDim, kvLoraRank } = this.#config
    const scale = 1 / Math.sqrt(qkNopeHeadDim + qkRopeHeadDim)
    const { latent, ropeKey } = cache
    scores.fill(0, 0, count)
    addProducts(absorbed, 0, latent, kvLoraRank, count, scores)
    addProducts(queries, ropeAt, ropeKey, qkRopeHeadDim, count, scores)
    let max = Number.NEGATIVE_INFINITY
    for (let past = 0; past < count; past++) if (scores[past]! > max) max = scores[past]!
    let sum = 0
    for (let past = 0; past < count; past++) sum += scores[past] = Math.exp(scale * (scores[past]! - max))
    for (let past = 0; past < count; past++) scores[past]! /= sum
  }

  /** A head's output from its weighted latents. */
  #project(mixed: Float64Array, head: number, heads: Float32Array, at: number): void {
    const { qkNopeHeadDim, vHeadDim, kvLoraRank } = this.#config
    const { up } = this.#weights
    const first = (head * (qkNopeHeadDim + vHeadDim) + qkNopeHeadDim) * kvLoraRank
    for (let v = 0; v < vHeadDim; v++) {
      let sum = 0
      const row = first + v * kvLoraRank
      for (let i = 0; i < kvLoraRank; i++) sum += up[row + i]! * mixed[i]!
      heads[at + v] = sum
    }
  }
}

/** scores[past] += query · keys[past] over the first `count` tokens, four at a time so that each element of the query is loaded once for four. */
function addProducts(
  query: Float32Array | Float64Array,
  at: number,
  keys: Float32Array,
  size: number,
  count: number,
  scores: Float64Array,
): void {
  const whole = count - (count % 4)
  for (let past = 0; past < whole; past += 4) {
    const k0 = past * size
    const k1 = k0 + size
    const k2 = k1 + size
    const k3 = k2 + size
    let [sum0, sum1, sum2, sum3] = [0, 0, 0, 0]
    for (let i = 0; i < size; i++) {
      const value = query[at + i]!
      sum0 += value * keys[k0 + i]!
      sum1 += value * keys[k1 + i]!
      sum2 += value * keys[k2 + i]!
      sum3 += value * keys[k3 + i]!
    }
    scores[past]! += sum0
    scores[past + 1]! += sum1
    scores[past + 2]! += sum2
    scores[past + 3]! += sum3
  }
  for (let past = whole; past < count; past++) {
    for (let i = 0; i < size; i++) scores[past]! += query[at + i]! * keys[past * size + i]!
  }
}

/** mixed = Σ weights[past] · latent[past] over the first `count` tokens, four at a time so that each sum is loaded once for four products. */
function mix(weights: Float64Array, latent: Float32Array, count: number, mixed: Float64Array): void {
  const rank = mixed.length
  const whole = count - (count % 4)
  mixed.fill(0)
  for (let past = 0; past < whole; past += 4) {
    const w0 = weights[past]!
    const w1 = weights[past + 1]!
    const w2 = weights[past + 2]!
    const w3 = weights[past + 3]!
    const l0 = past * rank
    const l1 = l0 + rank
    const l2 = l1 + rank
    const l3 = l2 + rank
    for (let i = 0; i < rank; i++) {
      mixed[i]! += w0 * latent[l0 + i]! + w1 * latent[l1 + i]! + w2 * latent[l2 + i]! + w3 * latent[l3 + i]!
    }
  }
  for (let past = whole; past < count; past++) {
    for (let i = 0; i < rank; i++) mixed[i]! += weights[past]! * latent[past * rank + i]!
  }
}

interface AttentionWeights {
  /** `[numHeads * (nope + rope), hiddenSize]` */
  query: Float32Array
  /** `[kvLoraRank + rope, hiddenSize]` */
  down: Float32Array
  /** `[kvLoraRank]` */
  norm: Float32Array
  /** `[numHeads * (nope + v), kvLoraRank]` */
  up: Float32Array
  /** `[hiddenSize, numHeads * v]` */
  output: Float32Array
}
