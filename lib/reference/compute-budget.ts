/** The compute budget of a call: which of a token's ranked slots its top-k and top-p keep, and the weights of those. */

import type { ResolvedRouting } from '../block/routing.js'
import { sigmoid, softmax } from './scores.js'

/**
 * Weights before normalisation: the scores themselves; for `topk_softmax` the softmax over just these logits (Granite, gpt-oss); for
 * `topk_sigmoid` the sigmoid of each (Llama 4).
 */
export function slotWeights(routing: ResolvedRouting, values: readonly number[]): number[] {
  if (routing.scoringFunc === 'topk_softmax') return softmax(values)
  if (routing.scoringFunc === 'topk_sigmoid') return values.map(sigmoid)
  return [...values]
}

/** The family's renormalisation, over the slots given. */
export function normalize(routing: ResolvedRouting, weights: readonly number[]): number[] {
  const { normalization, normValue } = routing
  if (normalization === 'none') return [...weights]
  const sum = weights.reduce((a, b) => a + b, 0)
  const divisor =
    normalization === 'sum'
      ? sum + normValue
      : normalization === 'floor'
        ? Math.max(sum, normValue)
        : weights.reduce((a, b) => a + Math.abs(b) ** normValue, 0) ** (1 / normValue)
  return weights.map(w => w / divisor)
}

/**
 * Slots kept, rising. Of the trained ranking the first `topK` stay; of those, by falling weight (ties: the earlier slot), the fewest
 * whose share of their common weight reaches `topP`, at least one. `topP` 1 keeps all. Groups and scores are untouched: the
 * experts are those that the trained layer would have chosen.
 */
export function keptSlots(
  routing: ResolvedRouting,
  values: readonly number[],
  topK: number,
  topP: number,
): number[] {
  const count = Math.min(topK, values.length)
  const slots = Array.from({ length: count }, (_, slot) => slot)
  if (topP >= 1 || count === 0) return slots
  const weights = slotWeights(routing, values.slice(0, count))
  const total = weights.reduce((a, b) => a + b, 0)
  const falling = [...slots].sort((a, b) => weights[b]! - weights[a]! || a - b)
  let reached = 0
  const kept = new Set<number>()
  for (const slot of falling) {
    kept.add(slot)
    reached += weights[slot]!
    if (reached >= topP * total) break
  }
  return slots.filter(slot => kept.has(slot))
}
