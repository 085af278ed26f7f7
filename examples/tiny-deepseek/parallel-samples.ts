/**
 * What N samples of one prompt cost together, the layer's part of test-time compute: each step reads every expert that any of the N rows
 * met, once. Samples of one text meet the same experts more often than chance would have it.
 */

import { expectedExperts } from '../../lib/block/cost.js'
import { type Decoder, sampleToken, uniformSource } from './decoder/index.js'

export interface SampleFigures {
  numSamples: number
  /** Mean over steps and sparse layers. */
  distinctExperts: number
  /** What N independent tokens would meet under uniform routing. */
  uniformExperts: number
  /** Of all sparse layers, per step. */
  weightBytesPerStep: number
  /** The same for each of the N tokens. */
  weightBytesPerToken: number
}

/** @param steps tokens that each sample writes, temperature 1 */
export async function measureSamples(
  decoder: Decoder,
  prompt: Uint8Array,
  counts: readonly number[],
  steps: number,
): Promise<SampleFigures[]> {
  const { vocabSize } = decoder.config
  const figures: SampleFigures[] = []
  for (const numSamples of counts) {
    const uniform = uniformSource(numSamples)
    const samples = Array.from({ length: numSamples }, () => ({
      sequence: decoder.newSequence(),
      tokens: prompt as ArrayLike<number>,
    }))
    let [distinct, bytes] = [0, 0]
    for (let step = 0; step <= steps; step++) {
      const { logits, routing } = await decoder.forward(samples)
      // The call that reads the prompt is not a step.
      if (step > 0) {
        for (const { work } of routing) {
          distinct += work.expertTokens.reduce((count, tokens) => count + (tokens > 0 ? 1 : 0), 0)
          bytes += work.weightBytes
        }
      }
      let end = 0
      for (const sample of samples) {
        end += sample.tokens.length * vocabSize
        const token = sampleToken(logits.subarray(end - vocabSize, end), { temperature: 1, topP: 1 }, uniform)
        sample.tokens = [token]
      }
    }
    const { numExperts, topK } = decoder.feedForwards[decoder.sparseLayers[0]!]!.config
    figures.push({
      numSamples,
      distinctExperts: distinct / steps / decoder.sparseLayers.length,
      uniformExperts: expectedExperts(numExperts, topK, numSamples),
      weightBytesPerStep: bytes / steps,
      weightBytesPerToken: bytes / steps / numSamples,
    })
  }
  return figures
}
