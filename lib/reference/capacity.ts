/** Capacity: which choices an expert keeps when the number of its tokens is limited. */

import type { ResolvedRouting } from '../block/routing.js'
import { softmax, topIndices } from './scores.js'

/** Tokens between two yields. */
const TOKENS_PER_STEP = 1024

/** One token's choices: expert ids in order of preference, already cut to what the call keeps. */
export interface CapacityChoice {
  ids: readonly number[]
  /** The greatest router probability of the token, for batch-prioritised queues. */
  peak: number
}

/**
 * NLLB-MoE's top-2 (`NllbMoeTop2Router`): the first choice has the greatest probability, the second the greatest logit among the
 * others. Switch Transformers takes the first alone.
 */
export function capacityRanking(z: ArrayLike<number>, topK: number): { ids: number[]; values: number[] } {
  const p = softmax(z)
  const ids = topIndices(p, 1)
  if (topK === 2) {
    const others = Array.from(z)
    others[ids[0]!] = Number.NEGATIVE_INFINITY
    ids.push(topIndices(others, 1)[0]!)
  }
  return { ids, values: ids.map(id => p[id]!) }
}

/**
 * Switch Transformers (`SwitchTransformersTop1Router`): within each sequence, in position order, a token is kept while at most
 * `expertCapacity` tokens so far, itself included, chose its expert. Rows without a choice take no room.
 */
export function* limitPerSequence(
  choices: readonly (CapacityChoice | null)[],
  sequenceLengths: ArrayLike<number> | null,
  expertCapacity: number,
): Generator<void, boolean[][], void> {
  const lengths = sequenceLengths ? Array.from(sequenceLengths) : [choices.length]
  const kept: boolean[][] = choices.map(choice => (choice ? choice.ids.map(() => false) : []))
  let start = 0
  for (const length of lengths) {
    const used = new Map<number, number>()
    for (let token = start; token < start + length; token++) {
      if (token % TOKENS_PER_STEP === 0) yield
      choices[token]?.ids.forEach((id, slot) => {
        const rank = (used.get(id) ?? 0) + 1
        used.set(id, rank)
        kept[token]![slot] = rank <= expertCapacity
      })
    }
    start += length
  }
  return kept
}

/** Tokens that one expert holds in a batch of `numTokens`: by fraction, by figure, or `2 * ceil(T / E)`. */
export function batchCapacity(
  capacity: NonNullable<ResolvedRouting['capacity']>,
  numTokens: number,
  numExperts: number,
) {
  if (capacity.tokenFraction > 0) return Math.ceil(capacity.tokenFraction * numTokens)
  if (capacity.expertCapacity > 0) return capacity.expertCapacity
  return 2 * Math.ceil(numTokens / numExperts)
}

/** Token order of the queue: as they come, or by falling peak probability, ties to the earlier token. */
export function queueOrder(choices: readonly (CapacityChoice | null)[], batchPrioritized: boolean): number[] {
  const order = choices.flatMap((choice, token) => (choice ? [token] : []))
  if (batchPrioritized) order.sort((a, b) => choices[b]!.peak - choices[a]!.peak || a - b)
  return order
}

/**
 * NLLB-MoE (`NllbMoeTop2Router.route_tokens`): over the whole batch, first choices queue for their expert, then second choices
 * behind every first choice of that expert, counted before any is dropped; the first `limit` of each queue are kept.
 */
export function* limitBatch(
  choices: readonly (CapacityChoice | null)[],
  limit: number,
  batchPrioritized: boolean,
): Generator<void, boolean[][], void> {
  const order = queueOrder(choices, batchPrioritized)
  const kept: boolean[][] = choices.map(choice => (choice ? choice.ids.map(() => false) : []))
  const queued = new Map<number, number>()
  for (const slot of [0, 1]) {
    for (const [place, token] of order.entries()) {
      if (place % TOKENS_PER_STEP === 0) yield
      const id = choices[token]!.ids[slot]
      if (id === undefined) continue
      const rank = queued.get(id) ?? 0
      queued.set(id, rank + 1)
      kept[token]![slot] = rank < limit
    }
  }
  return kept
}
