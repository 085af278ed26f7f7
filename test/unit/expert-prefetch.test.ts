/** What the engine reads ahead is what its oracle expects: every slot, hit and eviction of random passes through layers. */

import { describe, expect, it } from 'vitest'
import { loadNative } from '../../lib/devices/native/addon.js'
import { CachePolicy, type CacheShape, type EvictionRule } from '../../lib/reference/cache-policy.js'
import { ExpertAffinity } from '../../lib/reference/expert-affinity.js'
import { Random } from '../cases/random.js'

const RULES: readonly EvictionRule[] = ['lru', 'lfu', 'lfru', 'static']

const SHAPES: Record<string, Omit<CacheShape, 'rule'>> = {
  'a quota for each layer': {
    poolSlots: [5, 9, 6],
    layers: [9, 32, 12].map((numExperts, pool) => ({ numExperts, pool })),
  },
  'one pool for all layers': {
    poolSlots: [17],
    layers: [9, 32, 12].map(numExperts => ({ numExperts, pool: 0 })),
  },
}

interface Call {
  layer: number
  experts: number[]
}

/** Passes through the layers, in which an expert draws others of the next layer after it; some calls are missing, empty or of many tokens. */
function randomPasses(random: Random, { layers }: CacheShape, count: number): Call[] {
  const calls: Call[] = []
  let chosen: number[] = []
  for (let pass = 0; pass < count; pass++)
    for (const [layer, { numExperts }] of layers.entries()) {
      if (random.uniform() < 0.05) continue
      const isWide = random.uniform() < 0.04
      const draws = isWide ? 3 * numExperts : random.uniform() < 0.04 ? 0 : 3
      const drawn = Array.from({ length: draws }, (_, i) =>
        random.uniform() < 0.6 && chosen.length > 0
          ? (7 * chosen[i % chosen.length]! + i) % numExperts
          : random.integer(numExperts),
      )
      chosen = [...new Set(drawn)].sort((a, b) => a - b)
      calls.push({ layer, experts: chosen })
    }
  return calls
}

/** What the oracle does in a call, as the engine's code in csrc/binding/cache_policy.cc. */
function oracleOf(shape: CacheShape, mostPrefetched: readonly number[]) {
  const policy = new CachePolicy(shape)
  const affinity = new ExpertAffinity(shape.layers.map(({ numExperts }) => numExperts))
  const evicted = shape.layers.map(() => 0)
  const call = ({ layer, experts }: Call) => {
    const places = policy.plan(layer, experts)
    if (experts.length === 0) return places
    if (experts.length > shape.poolSlots[shape.layers[layer]!.pool]!) {
      affinity.pause()
      return places
    }
    const expected = affinity.saw(layer, experts)
    if (expected.length === 0) return places
    for (const place of policy.prefetch(layer + 1, expected, mostPrefetched[layer + 1]!))
      if (place.evicted) evicted[place.evicted.layer]!++
    return places
  }
  const countsOf = (layer: number) => {
    const { prefetched, used, wasted } = policy.prefetchCounts(layer)
    return { prefetched, used, wasted, evicted: evicted[layer] }
  }
  return { call, countsOf }
}

describe.each(Object.entries(SHAPES))('%s', (_, layout) => {
  it.each(RULES)('%s expects what the oracle does', rule => {
    const shape = { ...layout, rule }
    const mostPrefetched = [0, 2, 3]
    const calls = randomPasses(new Random(RULES.indexOf(rule) + 5), shape, 700)
    const native = loadNative().createCachePolicy({ ...shape, mostPrefetched })
    const experts = Int32Array.from(calls.flatMap(call => call.experts))
    const offsets = new Int32Array(calls.length + 1)
    for (const [i, call] of calls.entries()) offsets[i + 1] = offsets[i]! + call.experts.length
    const [slots, hits] = [new Int32Array(experts.length), new Uint8Array(experts.length)]
    const layers = Int32Array.from(calls, call => call.layer)
    native.planCalls(layers, offsets, experts, slots, hits, null)

    const oracle = oracleOf(shape, mostPrefetched)
    const places = calls.flatMap(call => oracle.call(call))
    expect([...slots]).toEqual(places.map(({ slot }) => slot))
    expect([...hits]).toEqual(places.map(({ isHit }) => Number(isHit)))
    for (const layer of shape.layers.keys())
      expect(native.prefetchCounts(layer)).toEqual(oracle.countsOf(layer))
    const [first, second] = [native.prefetchCounts(0), native.prefetchCounts(1)]
    expect(first.prefetched).toBe(0)
    // Nobody leaves a static cache, which is full before anything can be expected.
    expect(second.used > 20).toBe(rule !== 'static')
    expect(second.wasted > 20).toBe(rule !== 'static')
  })
})

it('pairs are halved at their bound by both', () => {
  const layers = [2, 3].map((numExperts, pool) => ({ numExperts, pool }))
  const shape: CacheShape = { rule: 'lru', poolSlots: [2, 1], layers }
  const calls: Call[] = Array.from({ length: 65_600 }, (_, i) => [
    { layer: 0, experts: [0] },
    { layer: 1, experts: [i % 65_000 === 7 ? 2 : 1] },
  ]).flat()
  const native = loadNative().createCachePolicy({ ...shape, mostPrefetched: [0, 1] })
  const oracle = oracleOf(shape, [0, 1])
  const experts = Int32Array.from(calls, call => call.experts[0]!)
  const [slots, hits] = [new Int32Array(experts.length), new Uint8Array(experts.length)]
  const offsets = Int32Array.from({ length: calls.length + 1 }, (_, i) => i)
  const ofCalls = Int32Array.from(calls, call => call.layer)
  native.planCalls(ofCalls, offsets, experts, slots, hits, null)
  expect([...hits]).toEqual(calls.flatMap(call => oracle.call(call).map(({ isHit }) => Number(isHit))))
  expect(native.prefetchCounts(1)).toEqual(oracle.countsOf(1))
})

it('refuses numbers that are not one for each layer', () => {
  const shape = { rule: 'lru', poolSlots: [2], layers: [{ numExperts: 4, pool: 0 }] } as const
  const refused = expect.objectContaining({ moeCode: 'INVALID_ARGUMENT' })
  for (const mostPrefetched of [[], [1, 1], [-1], [0.5]])
    expect(() => loadNative().createCachePolicy({ ...shape, mostPrefetched })).toThrow(refused)
})
