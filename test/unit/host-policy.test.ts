/** What memory of the host has of the experts that a GPU misses: the engine's decisions are those of the oracle, on random traces. */

import { describe, expect, it } from 'vitest'
import { loadNative } from '../../lib/devices/native/addon.js'
import { CachePolicy, type CacheShape, type EvictionRule } from '../../lib/reference/cache-policy.js'
import { HostPolicy } from '../../lib/reference/host-policy.js'
import { Random } from '../cases/random.js'

const RULES: readonly EvictionRule[] = ['lru', 'lfu', 'lfru', 'static']

const SHAPES: Record<string, { shape: Omit<CacheShape, 'rule'>; hostBlocks: number[] }> = {
  'a quota for each layer': {
    shape: {
      poolSlots: [3, 7, 4],
      layers: [
        { numExperts: 9, pool: 0 },
        { numExperts: 32, pool: 1 },
        { numExperts: 12, pool: 2 },
      ],
    },
    hostBlocks: [2, 12, 0],
  },
  'slots of one pool, blocks of each layer': {
    shape: { poolSlots: [11], layers: [9, 32, 5].map(numExperts => ({ numExperts, pool: 0 })) },
    hostBlocks: [1, 20, 5],
  },
}

/** Experts that drift, now and then more than a pool has slots. */
function randomCalls(random: Random, { layers }: Pick<CacheShape, 'layers'>, count: number) {
  return Array.from({ length: count }, (_, call) => {
    const layer = random.integer(layers.length)
    const { numExperts } = layers[layer]!
    const share = random.uniform() < 0.05 ? 0.8 : 0.2
    const favourite = Math.floor(call / 40) % numExperts
    const experts = Array.from({ length: numExperts }, (_, expert) => expert).filter(
      expert => random.uniform() < share / (1 + ((expert - favourite + numExperts) % numExperts) / 4),
    )
    return { layer, experts }
  })
}

describe.each(Object.entries(SHAPES))('%s', (_, { shape, hostBlocks }) => {
  it.each(RULES)('%s decides as the oracle does', rule => {
    const calls = randomCalls(new Random(RULES.indexOf(rule) + 1), shape, 2000)
    const oracle = new CachePolicy({ rule, ...shape })
    const behind = shape.layers.map(({ numExperts }, i) => new HostPolicy(rule, hostBlocks[i]!, numExperts))
    const expected = calls.flatMap(({ layer, experts }) => {
      const places = oracle.plan(layer, experts)
      const missed = places.filter(({ isHit }) => !isHit)
      const isHere = behind[layer]!.plan(missed.map(({ expert, slot }) => ({ expert, passes: slot < 0 })))
      return places.map(place => (place.isHit ? 1 : isHere[missed.indexOf(place)] ? 2 : 0))
    })
    const experts = Int32Array.from(calls.flatMap(call => call.experts))
    const offsets = new Int32Array(calls.length + 1)
    for (const [i, call] of calls.entries()) offsets[i + 1] = offsets[i]! + call.experts.length
    const hits = new Uint8Array(experts.length)
    const native = loadNative().createCachePolicy({ rule, ...shape, hostBlocks })
    const layers = Int32Array.from(calls, call => call.layer)
    native.planCalls(layers, offsets, experts, new Int32Array(experts.length), hits, null)
    expect([...hits]).toEqual(expected)
    for (const found of [0, 1, 2]) expect(expected.filter(one => one === found).length).toBeGreaterThan(20)
    // Without blocks a layer finds nothing.
    for (const [i, { layer }] of calls.entries())
      if (hostBlocks[layer] === 0) expect([...hits.subarray(offsets[i]!, offsets[i + 1]!)]).not.toContain(2)
  })
})

it('refuses blocks that cannot be', () => {
  const shape = { rule: 'lru', poolSlots: [2], layers: [{ numExperts: 4, pool: 0 }] } as const
  const refused = expect.objectContaining({ moeCode: 'INVALID_ARGUMENT' })
  for (const hostBlocks of [[], [1, 1], [-1], [0.5]])
    expect(() => loadNative().createCachePolicy({ ...shape, hostBlocks })).toThrow(refused)
})
