/**
 * Writes on from a prompt, token by token: one call for the prompt, then one per token on the cached sequence. Where the positions end, the
 * last half of the text begins a new sequence: cached keys carry their positions, so they cannot be moved.
 */

import { uniformSource } from '../../../lib/cli/hidden-states.js'
import type { ComputeBudget, Decoder, DecoderResult } from './decoder.js'
import { checkSampling, type SamplingOptions, sampleToken } from './sample.js'

export interface GenerationOptions extends Partial<SamplingOptions> {
  maxTokens: number
  seed?: number
  /** Of the sparse layers. */
  computeBudget?: ComputeBudget
  signal?: AbortSignal
}

/** One new token, and the call that its logits come from. */
export interface GeneratedToken {
  token: number
  result: DecoderResult
}

export const DEFAULT_SAMPLING: Readonly<SamplingOptions> = { temperature: 0.7, topP: 0.95 }

/** @throws RangeError for an empty prompt: the model has no token that begins a text */
export async function* generate(
  decoder: Decoder,
  prompt: ArrayLike<number>,
  { maxTokens, seed = 1, computeBudget, signal, ...sampling }: GenerationOptions,
): AsyncGenerator<GeneratedToken, void, undefined> {
  const options = { ...DEFAULT_SAMPLING, ...sampling }
  checkSampling(options)
  if (prompt.length === 0) throw new RangeError('the prompt is empty')
  const uniform = uniformSource(seed)
  const { maxPositions, vocabSize } = decoder.config
  const text = Array.from(prompt)
  let sequence = decoder.newSequence()
  let tokens = text.slice(-maxPositions)
  for (let count = 0; count < maxTokens; count++) {
    signal?.throwIfAborted()
    if (sequence.length + tokens.length > maxPositions) {
      sequence = decoder.newSequence()
      tokens = text.slice(-Math.ceil(maxPositions / 2))
    }
    const result = await decoder.forward([{ sequence, tokens }], computeBudget)
    const token = sampleToken(result.logits.subarray(-vocabSize), options, uniform)
    yield { token, result }
    text.push(token)
    tokens = [token]
  }
}
