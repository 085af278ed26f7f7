/**
 * A whole decoder of DeepSeek-V3's architecture:
 * 1. token embeddings;
 * 2. per layer x += attention(norm(x)), then x += feedForward(norm(x)), the feed-forwards through the package;
 * 3. a last norm and the logits of the next token.
 *
 * A call takes tokens of any number of sequences, each with its cache, so that a prompt, one step, and a step of many sequences at once
 * are the same thing. All rows meet in the feed-forwards: that is where a batch shares experts.
 */

import { type DType, type MoeLayer, MoeModel, type Work } from 'sparse-experts'
import { Attention, LatentCache } from './attention.js'
import { TensorFile, type TensorSource } from './checkpoint.js'
import { type DecoderConfig, readDecoderConfig } from './config.js'
import { denseSize, type FeedForwardOptions, loadDense } from './feed-forward.js'
import { linear } from './linear.js'
import { rmsNorm } from './norm.js'
import { Rotary } from './rotary.js'

/** What the decoder remembers of a sequence. */
export interface Sequence {
  /** Tokens so far. */
  length: number
  readonly layers: readonly LatentCache[]
}

/** Tokens to append to a sequence. */
export interface SequencePart {
  sequence: Sequence
  tokens: ArrayLike<number>
}

/** How much of the sparse layers runs for a token; absent: as trained. */
export interface ComputeBudget {
  /** Experts per token, one figure or one per row. */
  topK?: number | Uint8Array
  topP?: number
}

/** What one sparse layer did for the rows of a call. */
export interface LayerRouting {
  layer: number
  numExperts: number
  topK: number
  /** `[numTokens, topK]` */
  topkIds: Int32Array
  topkWeights: Float32Array
  work: Work
}

export interface DecoderResult {
  /** `[numTokens, vocabSize]`, rows in the order of the parts. */
  logits: Float32Array
  /** One per sparse layer. */
  routing: LayerRouting[]
  /** Of the call: in all feed-forwards, in everything. */
  feedForwardMs: number
  totalMs: number
}

interface DecoderLayer {
  inputNorm: Float32Array
  attention: Attention
  postAttentionNorm: Float32Array
  feedForward: MoeLayer
  sparse: boolean
}

export class Decoder {
  readonly config: Readonly<DecoderConfig>
  /** Feed-forwards by layer; a dense one has a single expert. */
  readonly feedForwards: readonly MoeLayer[]
  readonly #layers: readonly DecoderLayer[]
  readonly #embedding: Float32Array
  readonly #norm: Float32Array
  readonly #head: Float32Array

  private constructor(
    config: DecoderConfig,
    layers: readonly DecoderLayer[],
    embedding: Float32Array,
    norm: Float32Array,
    head: Float32Array,
  ) {
    this.config = config
    this.#layers = layers
    this.feedForwards = layers.map(layer => layer.feedForward)
    this.#embedding = embedding
    this.#norm = norm
    this.#head = head
  }

  /** Reads a checkpoint directory: `config.json` and `model.safetensors`. */
  static async load(directory: string, options: FeedForwardOptions = {}): Promise<Decoder> {
    const config = await readDecoderConfig(directory)
    await using source = await TensorFile.open(directory)
    // The sparse layers at once; dense twins have none.
    const sparse = config.firstSparseLayer < config.numLayers ? await MoeModel.load(directory, options) : null
    try {
      // Awaited here: the file is open until then.
      return await Decoder.build(config, source, async layer =>
        layer >= config.firstSparseLayer
          ? sparse!.layer(layer)
          : loadDense(source, layer, config.hiddenSize, denseSize(source, layer), options),
      )
    } catch (error) {
      sparse?.dispose()
      throw error
    }
  }

  /** Puts a decoder together from tensors and a feed-forward for each layer, which it then owns. */
  static async build(
    config: DecoderConfig,
    source: TensorSource,
    feedForwardOf: (layer: number) => Promise<MoeLayer>,
  ): Promise<Decoder> {
    const { hiddenSize, vocabSize } = config
    const rotary = new Rotary(config.qkRopeHeadDim, config.ropeTheta, config.maxPositions)
    const layers: DecoderLayer[] = []
    try {
      for (let layer = 0; layer < config.numLayers; layer++) {
        const prefix = `model.layers.${layer}`
        layers.push({
          inputNorm: await source.read(`${prefix}.input_layernorm.weight`, [hiddenSize]),
          attention: await Attention.load(source, config, layer, rotary),
          postAttentionNorm: await source.read(`${prefix}.post_attention_layernorm.weight`, [hiddenSize]),
          sparse: layer >= config.firstSparseLayer,
          feedForward: await feedForwardOf(layer),
        })
      }
      return new Decoder(
        config,
        layers,
        await source.read('model.embed_tokens.weight', [vocabSize, hiddenSize]),
        await source.read('model.norm.weight', [hiddenSize]),
        await source.read('lm_head.weight', [vocabSize, hiddenSize]),
      )
    } catch (error) {
      for (const { feedForward } of layers) feedForward.dispose()
      throw error
    }
  }

  /** Of the feed-forwards. */
  get device(): string {
    return this.feedForwards[0]!.device
  }

  get dtype(): DType {
    return this.feedForwards[0]!.dtype
  }

  /** Indices of the sparse layers. */
  get sparseLayers(): number[] {
    return this.#layers.flatMap(({ sparse }, layer) => (sparse ? [layer] : []))
  }

  newSequence(): Sequence {
    return { length: 0, layers: this.#layers.map(() => new LatentCache(this.config)) }
  }

  /** Appends tokens to their sequences and returns the logits behind each. A call on a sequence waits for the one before it. */
  async forward(parts: readonly SequencePart[], computeBudget: ComputeBudget = {}): Promise<DecoderResult> {
    const began = performance.now()
    let feedForwardMs = 0
    const { hiddenSize, vocabSize, rmsNormEps } = this.config
    let x = this.#embed(parts)
    const routing: LayerRouting[] = []
    for (const [index, layer] of this.#layers.entries()) {
      const attended = this.#attend(layer, index, rmsNorm(x, layer.inputNorm, rmsNormEps), parts)
      x = sum(x, attended)
      const hidden = rmsNorm(x, layer.postAttentionNorm, rmsNormEps)
      const start = performance.now()
      const result = await layer.feedForward.forward(hidden, layer.sparse ? computeBudget : {})
      feedForwardMs += performance.now() - start
      x = sum(x, result.output)
      if (!layer.sparse) continue
      const { numExperts, topK } = layer.feedForward.config
      const { topkIds, topkWeights, work } = result
      routing.push({ layer: index, numExperts, topK, topkIds, topkWeights, work })
    }
    for (const { sequence, tokens } of parts) sequence.length += tokens.length
    const logits = linear(rmsNorm(x, this.#norm, rmsNormEps), this.#head, hiddenSize, vocabSize)
    return { logits, routing, feedForwardMs, totalMs: performance.now() - began }
  }

  dispose(): void {
    for (const layer of this.feedForwards) layer.dispose()
  }

  [Symbol.dispose](): void {
    this.dispose()
  }

  /** `[numTokens, hiddenSize]` of all parts, checked. */
  #embed(parts: readonly SequencePart[]): Float32Array {
    const { hiddenSize, vocabSize, maxPositions } = this.config
    const numTokens = parts.reduce((count, { tokens }) => count + tokens.length, 0)
    const x = new Float32Array(numTokens * hiddenSize)
    let row = 0
    for (const { sequence, tokens } of parts) {
      const end = sequence.length + tokens.length
      if (end > maxPositions)
        throw new RangeError(`a sequence of ${end} tokens; the model has ${maxPositions} positions`)
      for (let i = 0; i < tokens.length; i++) {
        const token = tokens[i]!
        if (!(Number.isInteger(token) && token >= 0 && token < vocabSize))
          throw new RangeError(`token ${token} is not an id below ${vocabSize}`)
        x.set(this.#embedding.subarray(token * hiddenSize, (token + 1) * hiddenSize), row++ * hiddenSize)
      }
    }
    return x
  }

  #attend(layer: DecoderLayer, index: number, x: Float32Array, parts: readonly SequencePart[]): Float32Array {
    const { hiddenSize } = this.config
    const out = new Float32Array(x.length)
    let at = 0
    for (const { sequence, tokens } of parts) {
      const end = at + tokens.length * hiddenSize
      out.set(layer.attention.forward(x.subarray(at, end), sequence.layers[index]!, sequence.length), at)
      at = end
    }
    return out
  }
}

function sum(a: Float32Array, b: Float32Array): Float32Array {
  return a.map((value, i) => value + b[i]!)
}
