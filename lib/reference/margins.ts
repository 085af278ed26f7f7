/** How close each decision of a selection was, so that comparisons can skip tokens whose experts depend on rounding. */

import { allocate } from '../block/allocate.js'
import { checkOptionKeys } from '../block/errors.js'
import { resolveRoutingConfig } from '../block/resolve.js'
import type { ResolvedRouting, RoutingConfig, RoutingVectors } from '../block/routing.js'
import { queueOrder } from './capacity.js'
import { slotWeights } from './compute-budget.js'
import type { Numbers } from './matrix.js'
import { scoresOf, softcap, softmax, topIndices } from './scores.js'
import { groupScores, maskGroups, rankExperts, type SelectCall, selectionScores, shareOf } from './select.js'
import { sparsemixer } from './sparsemixer.js'
import {
  checkSelectCall,
  type ReferenceSelectOptions,
  rowsOfLogits,
  SELECT_OPTION_KEYS,
} from './stage-select.js'

/** How near the decisions of each token were; +∞ where nothing was decided. */
export interface SelectionMargins {
  /**
   * `[T]`: the smallest gap between something kept and something rejected: the last selected and the best rejected expert, the last
   * kept and the best rejected group, a sparsemixer logit and its threshold, a `topP` share and its target, two neighbours in a
   * batch-prioritised queue. Another implementation must choose the same experts wherever this exceeds its error. With capacity a
   * near tie of one token can also move the ranks of others.
   */
  margin: Float64Array
  /** `[T]`: the smallest gap between two selected experts, which decides the order of their slots. */
  orderGap: Float64Array
}

/** {@link SelectionMargins} of the same arguments as `selectExperts`. Rows with a logit that is not finite have margin 0. */
export function selectionMargins(
  routerLogits: Numbers,
  routing: RoutingConfig,
  options: ReferenceSelectOptions = {},
): SelectionMargins {
  checkOptionKeys(options, SELECT_OPTION_KEYS)
  const { routing: rule, vectors } = resolveRoutingConfig(routing)
  const rows = rowsOfLogits(routerLogits, rule)
  const call = checkSelectCall(rule, options, rows.length)
  const margin = allocate(Float64Array, rows.length)
  const orderGap = allocate(Float64Array, rows.length)
  rows.forEach((row, t) => {
    const limit = typeof call.topK === 'number' ? call.topK : call.topK[t]!
    const finite = Array.from(row).every(Number.isFinite)
    const gaps = finite ? rowMargins(row, rule, vectors, call, limit, t) : { margin: 0, orderGap: 0 }
    margin[t] = gaps.margin
    orderGap[t] = gaps.orderGap
  })
  if (rule.capacity?.batchPrioritized) {
    const choices = rows.map(row => ({
      ids: [],
      peak: Math.max(...softmax(softcap(row, rule.logitSoftcap))),
    }))
    const order = queueOrder(choices, true)
    for (let i = 1; i < order.length; i++) {
      const gap = choices[order[i - 1]!]!.peak - choices[order[i]!]!.peak
      for (const t of [order[i - 1]!, order[i]!]) margin[t] = Math.min(margin[t]!, gap)
    }
  }
  return { margin, orderGap }
}

/** Gap between rank `k` and rank `k + 1`, and the smallest gap above; masked scores (−∞) count for nothing. */
function gapsAt(scores: readonly number[], k: number): { margin: number; orderGap: number } {
  const live = scores.filter(Number.isFinite)
  const falling = topIndices(live, Math.min(k + 1, live.length)).map(i => live[i]!)
  const margin = k > 0 && k < falling.length ? falling[k - 1]! - falling[k]! : Number.POSITIVE_INFINITY
  let orderGap = Number.POSITIVE_INFINITY
  for (let i = 1; i < Math.min(k, falling.length); i++)
    orderGap = Math.min(orderGap, falling[i - 1]! - falling[i]!)
  return { margin, orderGap }
}

function rowMargins(
  logits: Numbers,
  routing: ResolvedRouting,
  vectors: RoutingVectors,
  call: SelectCall,
  limit: number,
  token: number,
): { margin: number; orderGap: number } {
  const z = softcap(logits, routing.logitSoftcap)
  const shareGap = () => topPGap(logits, routing, vectors, call, limit, token)
  if (routing.hashRouted) return { margin: shareGap(), orderGap: Number.POSITIVE_INFINITY }
  if (routing.scoringFunc === 'sparsemixer') {
    const current = [...z]
    let margin = shareGap()
    for (const { id, distances } of sparsemixer(z, routing.sparsemixerEpsilon)) {
      margin = Math.min(margin, gapsAt(current, 1).margin)
      for (const distance of distances)
        if (!Number.isNaN(distance))
          margin = Math.min(margin, Math.abs(distance - 2 * routing.sparsemixerEpsilon))
      current[id] = Number.NEGATIVE_INFINITY
    }
    return { margin, orderGap: margin }
  }
  const scores = selectionScores(scoresOf(routing.scoringFunc, z), vectors.selectionBias)
  const own = gapsAt(maskGroups(scores, routing), limit)
  const groups =
    routing.numExpertGroups > 1
      ? gapsAt(groupScores(scores, routing), routing.topkGroup).margin
      : Number.POSITIVE_INFINITY
  return { margin: Math.min(own.margin, groups, shareGap()), orderGap: own.orderGap }
}

/** Smallest distance of a running share from `topP`, and between two weights that compete for the last place. */
function topPGap(
  logits: Numbers,
  routing: ResolvedRouting,
  vectors: RoutingVectors,
  call: SelectCall,
  limit: number,
  token: number,
): number {
  const topP = shareOf(call, token)
  if (topP >= 1 || limit === 0) return Number.POSITIVE_INFINITY
  const { values } = rankExperts(logits, routing, vectors, call.tokenIds?.[token] ?? null)
  const weights = slotWeights(routing, values.slice(0, limit))
  const total = weights.reduce((a, b) => a + b, 0)
  const falling = topIndices(weights, weights.length).map(i => weights[i]! / total)
  let gap = Number.POSITIVE_INFINITY
  let reached = 0
  for (const [i, share] of falling.entries()) {
    reached += share
    gap = Math.min(gap, Math.abs(reached - topP))
    if (reached < topP) continue
    if (i + 1 < falling.length) gap = Math.min(gap, share - falling[i + 1]!)
    break
  }
  return gap
}
