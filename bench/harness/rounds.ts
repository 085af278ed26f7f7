/**
 * Measures peers against each other: A B C, C B A, … in blocks of calls, so that whatever else happens on the machine happens to all of
 * them. A round gives one median per peer; the ratio of two peers is the median of the rounds' ratios.
 */

import { setTimeout as sleep } from 'node:timers/promises'
/** What takes turns: an implementation of a layer, or anything else whose calls can be timed. */
export interface Contestant {
  /** Milliseconds of each of `calls` calls of `numTokens` rows, beginning with input number `first`. */
  times(numTokens: number, first: number, calls: number): Promise<number[]>
}

export interface RoundOptions {
  rounds: number
  /** Time that one block of calls should take. */
  blockMs: number
}

/** Peers whose threads spin for a while after a call should have gone to sleep before the next one's turn. */
const REST_MS = 20
/** A peer whose call takes longer is left out of the rounds: it would be most of the run, and its distance is plain already. */
export const TOO_SLOW_MS = 3000

export function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b)
  const middle = sorted.length >> 1
  if (sorted.length === 0) return Number.NaN
  return sorted.length % 2 === 1 ? sorted[middle]! : (sorted[middle - 1]! + sorted[middle]!) / 2
}

/** Calls of a block: the first one of them only warms up. */
export function callsOfBlock(callMs: number, blockMs: number): number {
  return 1 + Math.max(1, Math.min(500, Math.round(blockMs / callMs)))
}

export interface PeerTimes {
  /** Medians per round; empty for a peer that is too slow. */
  rounds: number[]
  /** A first call. */
  callMs: number
}

/** One entry per peer. What the call is may be theirs alone: then the number of tokens means nothing. */
export async function runRounds(
  peers: readonly Contestant[],
  numTokens: number,
  { rounds, blockMs }: RoundOptions,
): Promise<PeerTimes[]> {
  const calls: number[] = []
  const times: PeerTimes[] = []
  for (const peer of peers) {
    const [once] = await peer.times(numTokens, 0, 1)
    const again = once! > 2 * TOO_SLOW_MS ? [] : await peer.times(numTokens, 1, 2)
    const callMs = Math.min(once!, ...again)
    times.push({ rounds: [], callMs })
    calls.push(callMs > TOO_SLOW_MS ? 0 : callsOfBlock(callMs, blockMs))
  }
  const next = peers.map(() => 3)
  for (let round = 0; round < rounds; round++) {
    const order = [...peers.keys()]
    if (round % 2 === 1) order.reverse()
    for (const index of order) {
      const count = calls[index]!
      if (count === 0) continue
      await sleep(REST_MS)
      const block = await peers[index]!.times(numTokens, next[index]!, count)
      next[index]! += count
      times[index]!.rounds.push(median(block.slice(1)))
    }
  }
  return times
}

export interface Ratio {
  median: number
  low: number
  high: number
}

/** Theirs over ours, round by round: above 1 we are faster. */
export function ratioOf(theirs: readonly number[], ours: readonly number[]): Ratio {
  const ratios = theirs.map((value, round) => value / ours[round]!)
  return { median: median(ratios), low: Math.min(...ratios), high: Math.max(...ratios) }
}
