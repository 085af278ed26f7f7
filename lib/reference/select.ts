/** From router logits to the experts of each token and their weights. */

import { allocate } from '../block/allocate.js'
import { invalidArgValue } from '../block/errors.js'
import type { ResolvedRouting, RoutingVectors } from '../block/routing.js'
import {
  batchCapacity,
  type CapacityChoice,
  capacityRanking,
  limitBatch,
  limitPerSequence,
} from './capacity.js'
import { keptSlots, normalize, slotWeights } from './compute-budget.js'
import { scoresOf, softcap, topIndices } from './scores.js'
import { sparsemixer } from './sparsemixer.js'

/**
 * The score of each contiguous group: its greatest (DeepSeek-V2, `group_limited_greedy`) or the sum of its two greatest
 * (DeepSeek-V3, `noaux_tc`) selection scores.
 */
export function groupScores(scores: readonly number[], routing: ResolvedRouting): number[] {
  const size = scores.length / routing.numExpertGroups
  return Array.from({ length: routing.numExpertGroups }, (_, g) => {
    const group = scores.slice(g * size, (g + 1) * size)
    const best = topIndices(group, routing.groupScore === 'max' ? 1 : 2)
    return best.reduce((sum, i) => sum + group[i]!, 0)
  })
}

/**
 * Selection scores with −∞ outside the best `topkGroup` groups. Not 0, as biased scores may be negative, but where a model's own code has 0
 * (`top2_sum_zeroed`): then an expert of another group is chosen before a negative score.
 */
export function maskGroups(scores: readonly number[], routing: ResolvedRouting): number[] {
  if (routing.numExpertGroups === 1) return [...scores]
  const size = scores.length / routing.numExpertGroups
  const kept = new Set(topIndices(groupScores(scores, routing), routing.topkGroup))
  const other = routing.groupScore === 'top2_sum_zeroed' ? 0 : Number.NEGATIVE_INFINITY
  return scores.map((score, e) => (kept.has(Math.floor(e / size)) ? score : other))
}

/** Score plus selection bias: what experts are ranked by, and nothing else (DeepSeek-V3 technical report §2.1.2). */
export function selectionScores(scores: readonly number[], bias?: Float32Array): number[] {
  return bias ? scores.map((score, e) => score + bias[e]!) : [...scores]
}

/** A token's experts in selection order, and what their weights are made of: unbiased scores, or logits for `topk_…`. */
export interface Ranking {
  ids: number[]
  values: number[]
}

/** The trained choice of one token, before top-k and top-p of the call: `topK` distinct experts (hash-routed: the table's). */
export function rankExperts(
  logits: ArrayLike<number>,
  routing: ResolvedRouting,
  vectors: RoutingVectors,
  tokenId: number | null,
): Ranking {
  const z = softcap(logits, routing.logitSoftcap)
  if (routing.scoringFunc === 'sparsemixer') {
    const rounds = sparsemixer(z, routing.sparsemixerEpsilon)
    return { ids: rounds.map(r => r.id), values: rounds.map(r => r.weight) }
  }
  if (routing.capacity) return capacityRanking(z, routing.topK)
  const scores = scoresOf(routing.scoringFunc, z)
  const ids = routing.hashRouted
    ? hashIds(routing, vectors, tokenId)
    : topIndices(maskGroups(selectionScores(scores, vectors.selectionBias), routing), routing.topK)
  return { ids, values: ids.map(id => scores[id]!) }
}

function hashIds(routing: ResolvedRouting, vectors: RoutingVectors, tokenId: number | null): number[] {
  const table = vectors.hashTable!
  const vocabSize = table.length / routing.topK
  if (tokenId === null || !(tokenId >= 0 && tokenId < vocabSize))
    throw invalidArgValue('tokenIds', `ids from 0 to ${vocabSize - 1}`, tokenId)
  return Array.from(table.subarray(tokenId * routing.topK, (tokenId + 1) * routing.topK))
}

/** What a call adds to the rule. */
export interface SelectCall {
  /** `[T]`, for hash-routed rules. */
  tokenIds: ArrayLike<number> | null
  /** Experts kept for every row, or per row `[T]`. */
  topK: number | Uint8Array
  /** In (0, 1], for every row, or per row `[T]`; 1 keeps all. */
  topP: number | Float64Array
  /** Tokens per sequence, for capacity rules; null: one sequence. */
  sequenceLengths: ArrayLike<number> | null
}

/** `topP` of a row. */
export function shareOf({ topP }: SelectCall, token: number): number {
  return typeof topP === 'number' ? topP : topP[token]!
}

/** Where the result goes. T tokens, K = topK. */
export interface SelectOutput {
  /** `[T, K]`; −1 in dropped slots. */
  topkIds: Int32Array
  /** `[T, K]`; 0 in dropped slots. */
  topkWeights: Float64Array | Float32Array
  /** `[T]`, zeros; 1 where a logit is not finite. */
  nonFinite: Uint8Array
}

/** One row after top-k and top-p of the call: slots by number, so that a dropped one leaves its place empty. */
interface KeptRow extends Ranking {
  slots: number[]
}

/** Selection row by row; `finish` follows the last row, since capacity needs them all. */
export class Selector {
  private readonly waiting: (KeptRow | null)[] = []
  private readonly peaks: number[] = []

  constructor(
    private readonly routing: ResolvedRouting,
    private readonly vectors: RoutingVectors,
    private readonly call: SelectCall,
    private readonly output: SelectOutput,
  ) {}

  /**
   * Takes row `token` of the logits, `[E + Z]`. A row with a logit that is not finite gets the ids 0 … topK−1, NaN weights and
   * its flag, whatever top-k and top-p of the call, and takes no room where experts have a capacity.
   */
  row(token: number, logits: ArrayLike<number>): void {
    const { topK } = this.routing
    const { topkIds, topkWeights, nonFinite } = this.output
    for (let slot = 0; slot < topK; slot++) {
      topkIds[token * topK + slot] = -1
      topkWeights[token * topK + slot] = 0
    }
    this.waiting[token] = null
    for (let e = 0; e < logits.length; e++) if (!Number.isFinite(logits[e])) nonFinite[token] = 1
    if (nonFinite[token]) {
      for (let slot = 0; slot < topK; slot++) {
        topkIds[token * topK + slot] = slot
        topkWeights[token * topK + slot] = Number.NaN
      }
      return
    }
    const ranking = rankExperts(logits, this.routing, this.vectors, this.call.tokenIds?.[token] ?? null)
    const limit = typeof this.call.topK === 'number' ? this.call.topK : this.call.topK[token]!
    const slots = keptSlots(this.routing, ranking.values, limit, shareOf(this.call, token))
    const kept = { slots, ids: slots.map(s => ranking.ids[s]!), values: slots.map(s => ranking.values[s]!) }
    if (this.routing.capacity) {
      this.waiting[token] = kept
      this.peaks[token] = ranking.values[0]!
    } else this.write(token, kept, normalize(this.routing, slotWeights(this.routing, kept.values)))
  }

  /** Settles capacity; nothing to do for other rules. */
  *finish(): Generator<void, void, void> {
    const { capacity, numExperts } = this.routing
    if (!capacity) return
    const choices: (CapacityChoice | null)[] = this.waiting.map(
      (row, token) => row && { ids: row.ids, peak: this.peaks[token]! },
    )
    const room =
      capacity.kind === 'per_sequence'
        ? yield* limitPerSequence(choices, this.call.sequenceLengths, capacity.expertCapacity)
        : yield* limitBatch(
            choices,
            batchCapacity(capacity, choices.length, numExperts),
            capacity.batchPrioritized,
          )
    for (const [token, row] of this.waiting.entries()) {
      if (token % 1024 === 0) yield
      if (!row) continue
      const survivors = (values: readonly number[]) => values.map((v, i) => (room[token]![i] ? v : 0))
      const weights = capacity.normalizeBeforeDropping
        ? survivors(normalize(this.routing, row.values))
        : normalize(this.routing, survivors(row.values))
      const ids = row.ids.map((id, i) => (room[token]![i] ? id : -1))
      this.write(token, { ...row, ids }, weights)
    }
  }

  /** Scales once, after normalisation, and stores. */
  private write(token: number, row: KeptRow, weights: readonly number[]): void {
    const { topK, routedScalingFactor } = this.routing
    const scale = this.vectors.perExpertScale
    row.slots.forEach((slot, i) => {
      const id = row.ids[i]!
      if (id < 0) return
      this.output.topkIds[token * topK + slot] = id
      this.output.topkWeights[token * topK + slot] =
        weights[i]! * routedScalingFactor * (scale ? scale[id]! : 1)
    })
  }
}

/** Indices of the flags that are set. */
export function flaggedRows(flags: Uint8Array): Int32Array {
  const rows = allocate(
    Int32Array,
    flags.reduce((count, flag) => count + flag, 0),
  )
  let count = 0
  flags.forEach((flag, row) => {
    if (flag) rows[count++] = row
  })
  return rows
}
