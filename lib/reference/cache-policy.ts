/**
 * Which experts lie in the slots of a cache: the oracle of csrc/engine/cache_policy.h, whose head states the rules. It looks at every
 * expert of a pool to find the one to evict, where the engine keeps them in order.
 */

import { invalidArgValue } from '../block/errors.js'

/** Who is evicted; see csrc/engine/cache_policy.h. */
export type EvictionRule = 'lru' | 'lfu' | 'lfru' | 'static'

/** Slots of each pool; of each layer its number of experts and the pool that it takes slots of. */
export interface CacheShape {
  rule: EvictionRule
  poolSlots: readonly number[]
  layers: readonly { numExperts: number; pool: number }[]
}

/** Where a call finds, or puts, an expert that it needs. */
export interface ExpertPlace {
  expert: number
  /** Of the layer's pool; -1: it passes through the ring and is not kept. */
  slot: number
  isHit: boolean
  /** Layer and expert whose weights the slot held until now. */
  evicted: { layer: number; expert: number } | null
}

/** Uses at which those of all experts of a pool are halved. */
const MOST_USES = 65_536

interface Expert {
  layer: number
  expert: number
  slot: number
  uses: number
  last: number
}

/** The state of a cache over the calls that it has seen. */
export class CachePolicy {
  readonly #rule: EvictionRule
  readonly #layers: { pool: number; experts: Expert[] }[]
  readonly #pools: { slots: number; now: number }[]

  /** @throws RangeError ERR_MOE_INVALID_ARG_VALUE where a layer names a pool that there is not, or a pool has no slot */
  constructor({ rule, poolSlots, layers }: CacheShape) {
    this.#rule = rule
    for (const slots of poolSlots)
      if (!(slots >= 1)) throw invalidArgValue('poolSlots', 'at least 1 slot', slots)
    this.#pools = poolSlots.map(slots => ({ slots, now: 0 }))
    this.#layers = layers.map(({ numExperts, pool }, layer) => {
      if (!this.#pools[pool]) throw invalidArgValue('pool', 'the number of a pool', pool)
      const experts = Array.from({ length: numExperts }, (_, expert) => ({
        ...{ layer, expert, slot: -1, uses: 0, last: 0 },
      }))
      return { pool, experts }
    })
  }

  /** What a call does that needs these experts of the layer: distinct, by rising number. */
  plan(layer: number, experts: readonly number[]): ExpertPlace[] {
    if (experts.length === 0) return []
    const { pool } = this.#layers[layer]!
    const { slots } = this.#pools[pool]!
    const now = ++this.#pools[pool]!.now
    const needed = experts.map(expert => this.#expert(layer, expert))
    const isNarrow = needed.length <= slots
    if (isNarrow) {
      for (const expert of needed) {
        expert.last = now
        expert.uses++
      }
      if (needed.some(({ uses }) => uses >= MOST_USES))
        for (const expert of this.#expertsOf(pool)) expert.uses = Math.floor(expert.uses / 2)
    }
    return needed.map(expert => {
      const isHit = expert.slot >= 0
      const isKept = isHit || this.#takeFreeSlot(pool, expert)
      const victim =
        isKept || !isNarrow || this.#rule === 'static' ? undefined : this.#nextToGo(pool, new Set(needed))
      if (victim) {
        expert.slot = victim.slot
        victim.slot = -1
      }
      const evicted = victim ? { layer: victim.layer, expert: victim.expert } : null
      return { expert: expert.expert, slot: expert.slot, isHit, evicted }
    })
  }

  /** Puts the expert into a free slot; -1 where there is none. */
  warm(layer: number, expert: number): number {
    const found = this.#expert(layer, expert)
    if (found.slot < 0) this.#takeFreeSlot(this.#layers[layer]!.pool, found)
    return found.slot
  }

  /** The weights did not arrive: the expert's slot is free. */
  forget(layer: number, expert: number): void {
    this.#expert(layer, expert).slot = -1
  }

  #expert(layer: number, expert: number): Expert {
    const found = this.#layers[layer]?.experts[expert]
    if (!found) throw invalidArgValue('expert', 'an expert of a layer of the cache', `${layer}.${expert}`)
    return found
  }

  #expertsOf(pool: number): Expert[] {
    return this.#layers.filter(layer => layer.pool === pool).flatMap(layer => layer.experts)
  }

  #takeFreeSlot(pool: number, expert: Expert): boolean {
    const taken = new Set(this.#expertsOf(pool).map(({ slot }) => slot))
    for (let slot = 0; slot < this.#pools[pool]!.slots; slot++) {
      if (taken.has(slot)) continue
      expert.slot = slot
      return true
    }
    return false
  }

  #nextToGo(pool: number, needed: ReadonlySet<Expert>): Expert {
    const { now } = this.#pools[pool]!
    const score = ({ uses, last }: Expert): number =>
      this.#rule === 'lru' ? last : this.#rule === 'lfu' ? uses : uses / (now - last)
    const candidates = this.#expertsOf(pool).filter(expert => expert.slot >= 0 && !needed.has(expert))
    return candidates.reduce((lowest, expert) => {
      const order =
        score(expert) - score(lowest) ||
        expert.last - lowest.last ||
        expert.layer - lowest.layer ||
        expert.expert - lowest.expert
      return order < 0 ? expert : lowest
    })
  }
}
