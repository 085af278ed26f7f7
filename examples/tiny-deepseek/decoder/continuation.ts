/**
 * A text that the model writes on: what of it the model has to read next, and what it drew so far. Where the positions end, the last half of
 * the text begins a new sequence: cached keys carry their positions, so they cannot be moved.
 *
 * It makes no call of its own. Whoever does gives `take()` to `Decoder.forward`, alone or with other texts, and `draw()` the logits.
 */

import type { Decoder, Sequence, SequencePart } from './decoder.js'
import { uniformSource } from './random.js'
import { checkSampling, type SamplingOptions, sampleToken } from './sample.js'

export class Continuation {
  readonly #decoder: Decoder
  readonly #sampling: SamplingOptions
  readonly #uniform: () => number
  /** As much of the text's end as a new sequence may need. */
  readonly #text: number[]
  #sequence: Sequence
  #pending: number[]

  /**
   * @param prompt tokens; of more than the model has positions only the last are read
   * @param seed of the draws, an integer of 32 bits
   * @throws RangeError for sampling options out of range, and for an empty prompt: the model has no token that begins a text
   */
  constructor(decoder: Decoder, prompt: ArrayLike<number>, sampling: SamplingOptions, seed: number) {
    checkSampling(sampling)
    if (prompt.length === 0) throw new RangeError('the prompt is empty')
    this.#decoder = decoder
    this.#sampling = sampling
    this.#uniform = uniformSource(seed)
    this.#text = Array.from(prompt).slice(-decoder.config.maxPositions)
    this.#sequence = decoder.newSequence()
    this.#pending = this.#text.slice()
  }

  /** Tokens that the model has yet to read; 0 where the next one can be drawn. */
  get pendingTokens(): number {
    return this.#pending.length
  }

  /** The next tokens to read, `maxTokens` at most. The call that they go to ends before `take` or `draw` is called again. */
  take(maxTokens = Number.POSITIVE_INFINITY): SequencePart {
    return { sequence: this.#sequence, tokens: this.#pending.splice(0, maxTokens) }
  }

  /**
   * Draws the next token, once all pending ones are read; it is pending from then on.
   *
   * @param logits `[vocabSize]`, behind the last token that was read
   */
  draw(logits: Float32Array): number {
    const token = sampleToken(logits, this.#sampling, this.#uniform)
    const { maxPositions } = this.#decoder.config
    this.#text.push(token)
    if (this.#text.length > maxPositions) this.#text.shift()
    if (this.#sequence.length < maxPositions) this.#pending = [token]
    else {
      this.#sequence = this.#decoder.newSequence()
      this.#pending = this.#text.slice(-Math.ceil(maxPositions / 2))
    }
    return token
  }
}
