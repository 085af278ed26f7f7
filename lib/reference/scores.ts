/** Scoring functions over the router logits of one token, and the order of its scores. */

import type { ResolvedRouting } from '../block/routing.js'

/** Logistic sigmoid, without overflow for either sign. */
export function sigmoid(v: number): number {
  if (v >= 0) return 1 / (1 + Math.exp(-v))
  const e = Math.exp(v)
  return e / (1 + e)
}

/** `ln(1 + e^v)`, without overflow and with full relative accuracy for very negative v. */
export function softplus(v: number): number {
  return Math.max(v, 0) + Math.log1p(Math.exp(-Math.abs(v)))
}

/** Softmax over all elements; the greatest is subtracted first. */
export function softmax(z: ArrayLike<number>): number[] {
  const values = Array.from(z)
  const greatest = values.reduce((a, b) => Math.max(a, b), Number.NEGATIVE_INFINITY)
  const powers = values.map(v => Math.exp(v - greatest))
  const total = powers.reduce((a, b) => a + b, 0)
  return powers.map(p => p / total)
}

/** `cap * tanh(z / cap)` for each logit; cap 0 leaves them (Laguna: `moe_router_logit_softcapping`). */
export function softcap(z: ArrayLike<number>, cap: number): number[] {
  const values = Array.from(z)
  return cap > 0 ? values.map(v => cap * Math.tanh(v / cap)) : values
}

/**
 * Scores over all router outputs. `softmax`: Mixtral, Qwen, DeepSeek-V2; `sigmoid`: DeepSeek-V3 technical report §2.1.2;
 * `sqrtsoftplus`: DeepSeek-V4's published configuration. The two `topk_…` functions select on the logits themselves.
 */
export function scoresOf(scoringFunc: ResolvedRouting['scoringFunc'], z: ArrayLike<number>): number[] {
  switch (scoringFunc) {
    case 'softmax':
      return softmax(z)
    case 'sigmoid':
      return Array.from(z, sigmoid)
    case 'sqrtsoftplus':
      return Array.from(z, v => Math.sqrt(softplus(v)))
    case 'topk_softmax':
    case 'topk_sigmoid':
    case 'sparsemixer':
      return Array.from(z)
  }
}

/** Indices of the `k` greatest scores, falling; ties to the lower index. */
export function topIndices(scores: ArrayLike<number>, k: number): number[] {
  const top: number[] = []
  for (let i = 0; i < scores.length; i++) {
    if (top.length === k && !(scores[i]! > scores[top[k - 1]!]!)) continue
    let at = top.length
    while (at > 0 && scores[i]! > scores[top[at - 1]!]!) at--
    top.splice(at, 0, i)
    if (top.length > k) top.pop()
  }
  return top
}
