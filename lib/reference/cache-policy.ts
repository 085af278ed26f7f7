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
  /** Layer and expert whose weights lay until now where this one goes. */
  evicted: { layer: number; expert: number } | null
}

/** Uses at which those of all experts of a pool are halved. */
const MOST_USES = 65_536
/** Slots of a pool that are the ring of a call that needs more experts than there are slots. */
const MOST_RING = 4

interface Expert {
  layer: number
  expert: number
  slot: number
  uses: number
  last: number
}

const nameOf = (gone: Expert | undefined) => (gone ? { layer: gone.layer, expert: gone.expert } : null)

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
    if (needed.length > slots) return this.#planWide(pool, needed)
    for (const expert of needed) {
      expert.last = now
      expert.uses++
    }
    if (needed.some(({ uses }) => uses >= MOST_USES))
      for (const expert of this.#expertsOf(pool)) expert.uses = Math.floor(expert.uses / 2)
    return needed.map(expert => {
      const isHit = expert.slot >= 0
      const isKept = isHit || this.#takeFreeSlot(pool, expert)
      const victim = isKept || this.#rule === 'static' ? undefined : this.#nextToGo(pool, new Set(needed))
      if (victim) {
        expert.slot = victim.slot
        victim.slot = -1
      }
      return { expert: expert.expert, slot: expert.slot, isHit, evicted: nameOf(victim) }
    })
  }

  /** A call that needs more experts than the pool has slots. */
  #planWide(pool: number, needed: readonly Expert[]): ExpertPlace[] {
    const { slots } = this.#pools[pool]!
    const free = this.#freeSlots(pool).length
    const misses = needed.filter(({ slot }) => slot < 0)
    // Of the hits, where they lay before some of them left.
    const slotOf = new Map(
      needed.flatMap(expert => (expert.slot < 0 ? [] : [[expert, expert.slot] as const])),
    )
    const ring = this.#rule === 'static' ? 0 : Math.min(MOST_RING, misses.length, slots)
    const first = ring === 0 ? free : Math.max(0, free - ring)
    for (const expert of misses.slice(0, first)) this.#takeFreeSlot(pool, expert)
    const passing = misses.slice(first)
    const ringSlots = this.#freeSlots(pool)
    const evicted = new Map<Expert, ExpertPlace['evicted']>()
    while (ringSlots.length < ring) {
      const victim = this.#nextToGo(pool, new Set())
      evicted.set(passing[ringSlots.length]!, nameOf(victim))
      ringSlots.push(victim.slot)
      victim.slot = -1
    }
    for (const [i, expert] of passing.entries())
      if (i >= passing.length - ring) expert.slot = ringSlots[i % ring]!
    return needed.map(expert => {
      const isHit = slotOf.has(expert)
      return {
        expert: expert.expert,
        slot: slotOf.get(expert) ?? expert.slot,
        isHit,
        evicted: evicted.get(expert) ?? null,
      }
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

  #freeSlots(pool: number): number[] {
    const taken = new Set(this.#expertsOf(pool).map(({ slot }) => slot))
    return Array.from({ length: this.#pools[pool]!.slots }, (_, slot) => slot).filter(
      slot => !taken.has(slot),
    )
  }

  #takeFreeSlot(pool: number, expert: Expert): boolean {
    const [slot] = this.#freeSlots(pool)
    if (slot === undefined) return false
    expert.slot = slot
    return true
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
