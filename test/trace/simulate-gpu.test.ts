/** Simulations of two memories: slots of a GPU over memory of the host over the checkpoint. */

import { afterAll, describe, expect, it } from 'vitest'
import { CACHE_POLICIES, CACHE_SCOPES } from '../../lib/block/expert-cache.js'
import { type SimulateOptions, simulate } from '../../lib/index.js'
import { CachePolicy } from '../../lib/reference/cache-policy.js'
import { HostPolicy } from '../../lib/reference/host-policy.js'
import { Random } from '../cases/random.js'
import { removeDirectories, temporaryDirectory } from '../helpers/scratch.js'
import { makeTrace, randomCalls, type StatedCall, statedLayer } from '../helpers/traces.js'

afterAll(removeDirectories)

const LAYERS = [statedLayer(3, 12, 3), statedLayer(4, 20, 2), statedLayer(7, 9, 3, 2500)]
const needed = ({ rows }: StatedCall) => [...new Set(rows.flat())].filter(id => id >= 0).sort((a, b) => a - b)
const traceOf = async (seed: number) => {
  const calls = randomCalls(new Random(seed), LAYERS, 150)
  return { calls, trace: await makeTrace(await temporaryDirectory(), LAYERS, calls) }
}
/** A third of 30,000 bytes is ten experts of 1,000, or four of 2,500; a third of 15,000 five, or two. */
const BYTES = { deviceBytes: 30_000, hostBytes: 15_000 }

describe('counts', () => {
  const cases = CACHE_POLICIES.flatMap(policy => CACHE_SCOPES.map(scope => [policy, scope] as const))

  it.each(cases)('%s, scope %s: those of the oracles', async (policy, scope) => {
    const { calls, trace } = await traceOf(1)
    const cache = { ...BYTES, policy, scope }
    const simulation = await simulate(trace, { cache })
    const slots = simulation.perLayer.map(layer => layer.slots)
    const pools = scope === 'layer' ? [0, 1, 2] : [0, 0, 1]
    const oracle = new CachePolicy({
      rule: policy,
      poolSlots: scope === 'layer' ? slots : [slots[0]!, slots[2]!],
      layers: LAYERS.map(({ numExperts }, index) => ({ numExperts, pool: pools[index]! })),
    })
    const blocks = [5, 5, 2]
    const behind = LAYERS.map(({ numExperts }, i) => new HostPolicy(policy, blocks[i]!, numExperts))
    const counts = LAYERS.map((_, i) => ({ hostSlots: blocks[i], hits: 0, misses: 0, hostHits: 0 }))
    for (const call of calls) {
      const places = oracle.plan(call.index, needed(call))
      const missed = places.filter(({ isHit }) => !isHit)
      const isHere = behind[call.index]!.plan(
        missed.map(({ expert, slot }) => ({ expert, passes: slot < 0 })),
      )
      const own = counts[call.index]!
      own.hits += places.length - missed.length
      own.misses += missed.length
      own.hostHits += isHere.filter(Boolean).length
    }
    const readBytes = (own: (typeof counts)[0], i: number) =>
      (own.misses - own.hostHits) * LAYERS[i]!.expertBytes
    expect(simulation.perLayer).toMatchObject(
      counts.map((own, i) => ({ ...own, readBytes: readBytes(own, i) })),
    )
    expect(simulation).toMatchObject({
      hostSlots: 12,
      hostCacheBytes: 15_000,
      hostHits: counts.reduce((sum, { hostHits }) => sum + hostHits, 0),
      readBytes: counts.reduce((sum, own, i) => sum + readBytes(own, i), 0),
    })
    expect(simulation.hostHits).toBeGreaterThan(0)
    expect(simulation.belady.readBytes).toBeLessThanOrEqual(simulation.readBytes)
    // The slots decide as they do without memory behind them.
    const alone = await simulate(trace, { cache: { deviceBytes: BYTES.deviceBytes, policy, scope } })
    const { hits, misses, evictions, belady } = simulation
    expect(alone).toMatchObject({ hits, misses, evictions, hostSlots: 0, hostHits: 0 })
    expect(alone.belady.hits).toBe(belady.hits)
    expect(alone.readBytes).toBeGreaterThan(simulation.readBytes)
    expect(await simulate(trace, { cache: { hostBytes: BYTES.deviceBytes, policy, scope } })).toEqual(alone)
  })

  it('with room for all behind the GPU each expert is read once', async () => {
    const { calls, trace } = await traceOf(2)
    const { hostHits, misses, readBytes, hostSlots } = await simulate(trace, {
      cache: { ...BYTES, hostBytes: 1e9 },
    })
    const met = new Set(calls.flatMap(call => needed(call).map(expert => `${call.index}.${expert}`)))
    expect(hostSlots).toBe(12 + 20 + 9)
    expect(misses - hostHits).toBe(met.size)
    const bytes = [...met].map(name => LAYERS[Number(name.split('.')[0])]!.expertBytes)
    expect(readBytes).toBe(bytes.reduce((a, b) => a + b))
  })
})

describe('times', () => {
  const layer = [statedLayer(0, 12, 1, 1000)]
  const call = (...experts: number[]): StatedCall => ({ index: 0, rows: experts.map(id => [id]) })
  const timed = async (calls: StatedCall[], rates: SimulateOptions['rates']) => {
    const trace = await makeTrace(await temporaryDirectory(), layer, calls)
    const cache = { deviceBytes: 2000, hostBytes: 12_000, readers: 2 }
    return simulate(trace, { cache, rates })
  }

  it('of reads: each expert is copied as it arrives, one after the other', async () => {
    // Two reads end after 2 s; their copies after 2.5 and 3 s, each computed in 0.25 s.
    const { secondsPerCall, boundBy } = await timed([call(1, 2)], { disk: 1000, copy: 2000, expert: 4000 })
    expect(secondsPerCall!.mean).toBeCloseTo(3.25, 12)
    expect(boundBy).toBe('disk')
  })

  it("of copies alone, where the host's memory has what the GPU misses", async () => {
    const calls = [
      call(1, 2),
      call(3, 4),
      ...Array.from({ length: 40 }, (_, i) => call(1 + 2 * (i % 2), 2 + 2 * (i % 2))),
    ]
    const { secondsPerCall, boundBy, hostHits } = await timed(calls, { disk: 1e9, copy: 1000, expert: 4000 })
    expect(hostHits).toBe(80)
    // Copies end after 1 and 2 s, the second is computed until 2.25 s.
    expect(secondsPerCall!.p50).toBeCloseTo(2.25, 12)
    expect(boundBy).toBe('copy')
  })

  it('without a rate of copies they take none', async () => {
    const { secondsPerCall } = await timed([call(1, 2)], { disk: 1000, expert: 4000 })
    expect(secondsPerCall!.mean).toBeCloseTo(2.5, 12)
  })
})

describe('what cannot be', () => {
  it.each<[string, unknown, string, RegExp]>([
    ['slots and bytes', { cache: { slots: 5, deviceBytes: 1e6 } }, 'ERR_MOE_INVALID_ARG_VALUE', /both/],
    ['too few bytes', { cache: { deviceBytes: 29_999 } }, 'ERR_MOE_CACHE_TOO_SMALL', /give it 30000/],
    [
      'too few bytes behind it',
      { cache: { deviceBytes: 30_000, hostBytes: 7499 } },
      'ERR_MOE_CACHE_TOO_SMALL',
      /of the host.*give it 7500/,
    ],
    [
      'reads ahead',
      { cache: { ...BYTES, prefetch: 'affinity' } },
      'ERR_MOE_INVALID_ARG_VALUE',
      /cache\.prefetch/,
    ],
    [
      'copies without a GPU',
      { cache: { hostBytes: 30_000 }, rates: { disk: 1, copy: 1, expert: 1 } },
      'ERR_MOE_INVALID_ARG_VALUE',
      /rates\.copy/,
    ],
    [
      'copies that stand',
      { cache: BYTES, rates: { disk: 1, copy: 0, expert: 1 } },
      'ERR_MOE_INVALID_ARG_VALUE',
      /rates\.copy/,
    ],
  ])('%s', async (_, options, code, message) => {
    const { trace } = await traceOf(5)
    await expect(simulate(trace, options as SimulateOptions)).rejects.toMatchObject({
      ...{ code, message: expect.stringMatching(message) },
    })
  })
})
