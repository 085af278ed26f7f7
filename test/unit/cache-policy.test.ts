/** The engine's cache policy makes the decisions of its oracle: every slot, hit and eviction of random traces. */

import { describe, expect, it } from 'vitest'
import { loadNative } from '../../lib/devices/native/addon.js'
import { CachePolicy, type CacheShape, type EvictionRule } from '../../lib/reference/cache-policy.js'
import { Random } from '../cases/random.js'

const RULES: readonly EvictionRule[] = ['lru', 'lfu', 'lfru', 'static']

interface Call {
  layer: number
  experts: number[]
}

/** Calls whose experts have favourites, drift, and now and then are more than the pool has slots. */
function randomCalls(random: Random, { layers }: CacheShape, count: number): Call[] {
  return Array.from({ length: count }, (_, call) => {
    const layer = random.integer(layers.length)
    const { numExperts } = layers[layer]!
    const isWide = random.uniform() < 0.05
    const favourite = Math.floor(call / 50) % numExperts
    const experts = Array.from({ length: numExperts }, (_, expert) => expert).filter(
      expert =>
        random.uniform() < (isWide ? 0.8 : 0.3 / (1 + ((expert - favourite + numExperts) % numExperts))),
    )
    return { layer, experts }
  })
}

/** What the addon decides for calls, as the oracle says it. */
function nativePlaces(shape: CacheShape) {
  const policy = loadNative().createCachePolicy(shape)
  const plan = (calls: readonly Call[]) => {
    const experts = Int32Array.from(calls.flatMap(call => call.experts))
    const offsets = new Int32Array(calls.length + 1)
    for (const [i, call] of calls.entries()) offsets[i + 1] = offsets[i]! + call.experts.length
    const slots = new Int32Array(experts.length)
    const hits = new Uint8Array(experts.length)
    const evicted = new Int32Array(2 * experts.length)
    const layers = Int32Array.from(calls, call => call.layer)
    policy.planCalls(layers, offsets, experts, slots, hits, evicted)
    return calls.map((_, call) =>
      Array.from({ length: offsets[call + 1]! - offsets[call]! }, (_, i) => {
        const at = offsets[call]! + i
        const [layer, expert] = [evicted[2 * at]!, evicted[2 * at + 1]!]
        const gone = expert < 0 ? null : { layer, expert }
        return { expert: experts[at]!, slot: slots[at]!, isHit: hits[at] === 1, evicted: gone }
      }),
    )
  }
  return { policy, plan }
}

const SHAPES: Record<string, Omit<CacheShape, 'rule'>> = {
  'a quota for each layer': {
    poolSlots: [3, 7, 12],
    layers: [
      { numExperts: 9, pool: 0 },
      { numExperts: 32, pool: 1 },
      { numExperts: 12, pool: 2 },
    ],
  },
  'one pool for all layers': {
    poolSlots: [11],
    layers: [9, 32, 5].map(numExperts => ({ numExperts, pool: 0 })),
  },
}

describe.each(Object.entries(SHAPES))('%s', (_, layout) => {
  it.each(RULES)('%s decides as the oracle does', rule => {
    const shape = { ...layout, rule }
    const random = new Random(RULES.indexOf(rule) + 1)
    const oracle = new CachePolicy(shape)
    const { policy, plan } = nativePlaces(shape)
    for (const [layer, { numExperts }] of shape.layers.entries())
      for (let i = 0; i < 3; i++) {
        const expert = random.integer(numExperts)
        expect(policy.warm(layer, expert)).toBe(oracle.warm(layer, expert))
      }
    const counts = { hits: 0, evictions: 0, ring: 0 }
    for (let round = 0; round < 8; round++) {
      const calls = randomCalls(random, shape, 250)
      const places = plan(calls)
      expect(places).toEqual(calls.map(({ layer, experts }) => oracle.plan(layer, experts)))
      for (const place of places.flat()) {
        if (place.isHit) counts.hits++
        if (place.evicted) counts.evictions++
        if (place.slot < 0) counts.ring++
      }
      // A read fails.
      const layer = random.integer(shape.layers.length)
      const expert = random.integer(shape.layers[layer]!.numExperts)
      policy.forget(layer, expert)
      oracle.forget(layer, expert)
    }
    expect(counts.hits).toBeGreaterThan(0)
    expect(counts.ring).toBeGreaterThan(0)
    if (rule === 'static') expect(counts.evictions).toBe(0)
    else expect(counts.evictions).toBeGreaterThan(0)
  })
})

it('uses are halved at their bound by both', () => {
  const shape: CacheShape = { rule: 'lfu', poolSlots: [2], layers: [{ numExperts: 5, pool: 0 }] }
  const oracle = new CachePolicy(shape)
  const { plan } = nativePlaces(shape)
  const calls: Call[] = [
    ...Array.from({ length: 4 }, () => ({ layer: 0, experts: [0] })),
    ...Array.from({ length: 65_536 }, () => ({ layer: 0, experts: [1] })),
    ...[2, 0, 3, 0, 4, 1, 2].map(expert => ({ layer: 0, experts: [expert] })),
  ]
  expect(plan(calls).slice(-7)).toEqual(calls.map(call => oracle.plan(call.layer, call.experts)).slice(-7))
})

it('refuses calls that cannot be, without a crash', () => {
  const policy = loadNative().createCachePolicy({
    rule: 'lru',
    poolSlots: [2],
    layers: [{ numExperts: 4, pool: 0 }],
  })
  const plan = (layers: number[], offsets: number[], experts: number[], slots = experts.length) => {
    const [calls, begins, needed] = [layers, offsets, experts].map(list => Int32Array.from(list))
    policy.planCalls(calls!, begins!, needed!, new Int32Array(slots), new Uint8Array(experts.length), null)
  }
  const refused = expect.objectContaining({ moeCode: 'INVALID_ARGUMENT' })
  const wrong: Parameters<typeof plan>[] = [
    [[0], [0, 3], [0, 1]],
    [[0], [1, 2], [0, 1]],
    [
      [0, 0],
      [0, 2, 1],
      [0, 1],
    ],
    [[0], [0, 2], [1, 1]],
    [[0], [0, 1], [4]],
    [[1], [0, 1], [0]],
    [[-1], [0, 1], [0]],
    [[0], [0, 1], [0], 2],
    [[0], [0], [0]],
  ]
  for (const call of wrong) expect(() => plan(...call), JSON.stringify(call)).toThrow(refused)
  expect(() => policy.warm(1, 0)).toThrow(refused)
  expect(() => policy.forget(0, 4)).toThrow(refused)
})
