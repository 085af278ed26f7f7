/** The held-out loss, as training measured it: mean cross-entropy in nats per byte over windows at even distances. */

import type { ComputeBudget, Decoder, LayerRouting } from './decoder.js'

/** Tokens that each window predicts; the length that the model was trained on. */
export const WINDOW = 256

export interface LossResult {
  /** Nats per byte. */
  loss: number
  numTokens: number
  /** Per window, per sparse layer. */
  routing: LayerRouting[][]
  feedForwardMs: number
}

/** Begins of `count` windows over `length` bytes: first and last at the ends. */
export function windowStarts(length: number, count: number): number[] {
  const last = length - WINDOW - 1
  return Array.from({ length: count }, (_, i) => (count === 1 ? 0 : Math.floor((i * last) / (count - 1))))
}

/** The bytes that {@link heldOutLoss} reads, in order. */
export function windowBytes(text: Uint8Array, count: number): number[] {
  return windowStarts(text.length, count).flatMap(start => [...text.subarray(start, start + WINDOW)])
}

export async function heldOutLoss(
  decoder: Decoder,
  text: Uint8Array,
  windows: number,
  computeBudget: ComputeBudget = {},
): Promise<LossResult> {
  let total = 0
  let feedForwardMs = 0
  const routing: LayerRouting[][] = []
  for (const start of windowStarts(text.length, windows)) {
    const tokens = text.subarray(start, start + WINDOW)
    const result = await decoder.forward([{ sequence: decoder.newSequence(), tokens }], computeBudget)
    const targets = text.subarray(start + 1, start + WINDOW + 1)
    total += crossEntropy(result.logits, targets, decoder.config.vocabSize)
    routing.push(result.routing)
    feedForwardMs += result.feedForwardMs
  }
  return { loss: total / (windows * WINDOW), numTokens: windows * WINDOW, routing, feedForwardMs }
}

/** Sum of −log p of each row's target. */
export function crossEntropy(logits: Float32Array, targets: ArrayLike<number>, vocabSize: number): number {
  let total = 0
  for (let row = 0; row < targets.length; row++) {
    const values = logits.subarray(row * vocabSize, (row + 1) * vocabSize)
    const max = values.reduce((a, b) => Math.max(a, b), Number.NEGATIVE_INFINITY)
    let sum = 0
    for (const value of values) sum += Math.exp(value - max)
    total += max + Math.log(sum) - values[targets[row]!]!
  }
  return total
}
