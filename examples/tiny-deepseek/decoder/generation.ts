/** Writes on from a prompt, token by token: one call for the prompt, then one per token on the cached sequence. */

import { Continuation } from './continuation.js'
import type { ComputeBudget, Decoder, DecoderResult } from './decoder.js'
import type { SamplingOptions } from './sample.js'

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

/** @throws RangeError for sampling options out of range, and for an empty prompt: the model has no token that begins a text */
export async function* generate(
  decoder: Decoder,
  prompt: ArrayLike<number>,
  { maxTokens, seed = 1, computeBudget, signal, ...sampling }: GenerationOptions,
): AsyncGenerator<GeneratedToken, void, undefined> {
  const text = new Continuation(decoder, prompt, { ...DEFAULT_SAMPLING, ...sampling }, seed)
  for (let count = 0; count < maxTokens; count++) {
    signal?.throwIfAborted()
    const result = await decoder.forward([text.take()], computeBudget)
    const token = text.draw(result.logits.subarray(-decoder.config.vocabSize))
    yield { token, result }
  }
}
