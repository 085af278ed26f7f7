/** Phi-3.5-MoE's routing ("SparseMixer-v2", inference form; `sparsemixer` of the published modelling code). */

import { softmax, topIndices } from './scores.js'

/** One round: its winner, the winner's weight, and each live logit's relative distance from the best. */
export interface SparsemixerRound {
  id: number
  weight: number
  /** `(best − z_e) / max(|z_e|, best)` per expert; NaN where the expert no longer takes part. */
  distances: number[]
}

/**
 * Two rounds over one token's logits. In each the best logit wins, and its weight is its softmax over the logits within `2 * epsilon`
 * (relative) of it; the second round leaves the first winner out. The denominator is an elementwise maximum with the best logit,
 * which may be negative, so in an all-negative row it is `|z_e|`. Nothing is normalised: the weights usually sum to nearly 2.
 */
export function sparsemixer(z: ArrayLike<number>, epsilon: number): SparsemixerRound[] {
  const current = Array.from(z)
  const rounds: SparsemixerRound[] = []
  for (let round = 0; round < 2; round++) {
    const id = topIndices(current, 1)[0]!
    const best = current[id]!
    const distances = current.map(v =>
      v === Number.NEGATIVE_INFINITY ? Number.NaN : (best - v) / Math.max(Math.abs(v), best),
    )
    // Written with ">": 0/0, where best and logit are both zero, stays in.
    const kept = current.map((v, e) => (distances[e]! > 2 * epsilon ? Number.NEGATIVE_INFINITY : v))
    rounds.push({ id, weight: softmax(kept)[id]!, distances })
    current[id] = Number.NEGATIVE_INFINITY
  }
  return rounds
}
