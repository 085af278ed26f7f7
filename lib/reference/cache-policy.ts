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

/** What became of the experts of a layer that were expected. */
export interface PrefetchCounts {
  prefetched: number
  used: number
  wasted: number
  dropped: number
}

interface Expert {
  layer: number
  expert: number
  slot: number
  uses: number
  last: number
  /** It got its slot by prefetch(), and no call has met it there. */
  isExpected: boolean
}

const nameOf = (gone: Expert | undefined) => (gone ? { layer: gone.layer, expert: gone.expert } : null)

/** The state of a cache over the calls that it has seen. */
export class CachePolicy {
  readonly #rule: EvictionRule
  readonly #layers: { pool: number; experts: Expert[]; last: number; counts: PrefetchCounts }[]
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
        ...{ layer, expert, slot: -1, uses: 0, last: 0, isExpected: false },
      }))
      return { pool, experts, last: 0, counts: { prefetched: 0, used: 0, wasted: 0, dropped: 0 } }
    })
  }

  /** What a call does that needs these experts of the layer: distinct, by rising number. */
  plan(layer: number, experts: readonly number[]): ExpertPlace[] {
    if (experts.length === 0) return []
    const { pool } = this.#layers[layer]!
    const { slots } = this.#pools[pool]!
    const now = ++this.#pools[pool]!.now
    const needed = experts.map(expert => this.#expert(layer, expert))
    for (const expert of needed) this.#settle(expert, 'used')
    if (needed.length > slots) return this.#planWide(pool, needed)
    this.#layers[layer]!.last = now
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
      if (victim) expert.slot = this.#leave(victim)
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
      ringSlots.push(this.#leave(victim))
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

  /** Of experts that are expected, the likeliest first, gives slots to the first of those that have none; those that got one. */
  prefetch(layer: number, experts: readonly number[], most: number): ExpertPlace[] {
    const { pool, last, experts: own } = this.#layers[layer]!
    const wanted = experts
      .map(expert => this.#expert(layer, expert))
      .filter(({ slot }) => slot < 0)
      .slice(0, most)
    const rankOf = ({ expert }: Expert) =>
      experts.includes(expert) ? experts.indexOf(expert) : experts.length
    const leaving = own
      .filter(expert => expert.slot >= 0 && (last === 0 || expert.last !== last))
      .sort((a, b) => rankOf(b) - rankOf(a) || a.last - b.last || a.expert - b.expert)
    const places: ExpertPlace[] = []
    for (const expert of wanted) {
      let victim: Expert | undefined
      if (!this.#takeFreeSlot(pool, expert)) {
        victim = this.#rule === 'static' ? undefined : leaving.shift()
        if (!victim || rankOf(victim) < rankOf(expert)) break
        expert.slot = this.#leave(victim)
      }
      expert.isExpected = true
      this.#layers[layer]!.counts.prefetched++
      places.push({ expert: expert.expert, slot: expert.slot, isHit: false, evicted: nameOf(victim) })
    }
    return places
  }

  prefetchCounts(layer: number): PrefetchCounts {
    return { ...this.#layers[layer]!.counts }
  }

  /** The weights did not arrive: the expert's slot is free. */
  forget(layer: number, expert: number): void {
    const found = this.#expert(layer, expert)
    this.#settle(found, 'dropped')
    found.slot = -1
  }

  /** The slot that the expert gives up. */
  #leave(expert: Expert): number {
    const { slot } = expert
    this.#settle(expert, 'wasted')
    expert.slot = -1
    return slot
  }

  #settle(expert: Expert, as: 'used' | 'wasted' | 'dropped'): void {
    if (expert.isExpected) this.#layers[expert.layer]!.counts[as]++
    expert.isExpected = false
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
