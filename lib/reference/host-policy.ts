/**
 * Which experts lie in memory of the host behind the slots of a layer on a GPU: the oracle of csrc/engine/host_policy.h, whose head states the
 * rules.
 */

import { CachePolicy, type EvictionRule } from './cache-policy.js'

/** An expert that a call misses on the device. */
export interface Miss {
  expert: number
  /** It is gone from the device when the call has ended. */
  passes: boolean
}

/** The blocks of one layer. */
export class HostPolicy {
  readonly #rule: EvictionRule
  readonly #blocks: number
  readonly #policy: CachePolicy | null
  readonly #held = new Set<number>()

  /** @param blocks 0: nothing is ever here */
  constructor(rule: EvictionRule, blocks: number, numExperts: number) {
    this.#rule = rule
    this.#blocks = blocks
    this.#policy =
      blocks > 0 ? new CachePolicy({ rule, poolSlots: [blocks], layers: [{ numExperts, pool: 0 }] }) : null
  }

  /** Of each of the misses, distinct and by rising number, whether it lies here. */
  plan(misses: readonly Miss[]): boolean[] {
    const asked = misses.filter(({ passes }) => passes || this.#rule !== 'static')
    const here = asked.filter(({ expert }) => this.#held.has(expert))
    const others = asked.filter(({ expert }) => !this.#held.has(expert))
    const meant = [...here, ...others.slice(0, this.#blocks - here.length)].map(({ expert }) => expert)
    const isHere = misses.map(({ expert }) => this.#held.has(expert))
    for (const { expert, slot, evicted } of this.#policy?.plan(
      0,
      meant.sort((a, b) => a - b),
    ) ?? []) {
      if (evicted) this.#held.delete(evicted.expert)
      if (slot >= 0) this.#held.add(expert)
    }
    return isHere
  }
}
