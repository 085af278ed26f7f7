/**
 * Simulations: counts are those of the oracle of the cache policy, the bound is that of all decisions there are, times are those of the
 * model worked out by hand.
 */

import { afterAll, describe, expect, it } from 'vitest'
import { CACHE_POLICIES, CACHE_SCOPES } from '../../lib/block/expert-cache.js'
import { type SimulateOptions, simulate } from '../../lib/index.js'
import { CachePolicy } from '../../lib/reference/cache-policy.js'
import type { TraceLayer } from '../../lib/trace/format.js'
import { Random } from '../cases/random.js'
import { removeDirectories, temporaryDirectory } from '../helpers/scratch.js'
import {
  makeTrace,
  randomCalls,
  randomRows,
  type StatedCall,
  statedLayer,
  writeTrace,
} from '../helpers/traces.js'

afterAll(removeDirectories)

const LAYERS = [statedLayer(3, 12, 3), statedLayer(4, 20, 2), statedLayer(7, 9, 3, 2500)]
/** Experts that a call needs, by rising number. */
const needed = ({ rows }: StatedCall) => [...new Set(rows.flat())].filter(id => id >= 0).sort((a, b) => a - b)
const tracesOf = async (seed: number, layers: readonly TraceLayer[] = LAYERS, steps = 150) => {
  const calls = randomCalls(new Random(seed), layers, steps)
  return { calls, trace: await makeTrace(await temporaryDirectory(), layers, calls) }
}

describe('counts', () => {
  const cases = CACHE_POLICIES.flatMap(policy => CACHE_SCOPES.map(scope => [policy, scope] as const))

  it.each(cases)('%s, scope %s: those of the oracle', async (policy, scope) => {
    const { calls, trace } = await tracesOf(1)
    const profile = policy === 'lfu' || policy === 'static' ? (await tracesOf(2)).trace : undefined
    const slots = 5
    const simulation = await simulate(trace, { cache: { slots, policy, scope, profile } })

    // Experts of one size share a pool: layers 3 and 4, apart from 7.
    const shape =
      scope === 'layer'
        ? { poolSlots: [5, 5, 5], pools: [0, 1, 2] }
        : { poolSlots: [10, 5], pools: [0, 0, 1] }
    const oracle = new CachePolicy({
      rule: policy,
      poolSlots: shape.poolSlots,
      layers: LAYERS.map(({ numExperts }, index) => ({ numExperts, pool: shape.pools[index]! })),
    })
    let warmBytes = 0
    if (profile) {
      const chosen = LAYERS.flatMap(({ numExperts, expertBytes }, index) =>
        Array.from({ length: numExperts }, (_, expert) => {
          const rows = profile.topkIds[index]!.filter(id => id === expert).length
          return { index, expert, rows, expertBytes }
        }),
      ).sort((a, b) => b.rows - a.rows || a.index - b.index || a.expert - b.expert)
      for (const { index, expert, expertBytes } of chosen)
        if (oracle.warm(index, expert) >= 0) warmBytes += expertBytes
    }
    const perLayer = LAYERS.map(({ layer }, index) => ({
      ...{
        layer,
        slots: shape.poolSlots[shape.pools[index]!],
        hostSlots: 0,
        hits: 0,
        misses: 0,
        hostHits: 0,
      },
      ...{ passed: 0, evictions: 0 },
    }))
    for (const call of calls)
      for (const place of oracle.plan(call.index, needed(call))) {
        if (place.isHit) perLayer[call.index]!.hits++
        else perLayer[call.index]!.misses++
        if (place.slot < 0) perLayer[call.index]!.passed++
        if (place.evicted) perLayer[place.evicted.layer]!.evictions++
      }
    const readBytes = LAYERS.map(({ expertBytes }, index) => perLayer[index]!.misses * expertBytes)
    const ahead = { prefetched: 0, prefetchUsed: 0, prefetchWasted: 0 }
    expect(simulation.perLayer).toEqual(
      perLayer.map((own, i) => ({ ...own, readBytes: readBytes[i], ...ahead })),
    )
    expect(simulation).toMatchObject({ ...ahead, prefetchedBytes: 0 })
    const sum = (field: 'hits' | 'misses' | 'passed' | 'evictions') =>
      perLayer.reduce((total, layer) => total + layer[field], 0)
    expect(simulation).toMatchObject({
      ...{ policy, scope, calls: calls.length, slots: 15, cacheBytes: 5 * (1000 + 1000 + 2500), warmBytes },
      ...{ hits: sum('hits'), misses: sum('misses'), passed: sum('passed'), evictions: sum('evictions') },
      hitRate: sum('hits') / (sum('hits') + sum('misses')),
      readBytes: readBytes.reduce((a, b) => a + b),
      ...{ secondsPerCall: null, boundBy: null },
    })
    expect(sum('hits')).toBeGreaterThan(0)
    expect(simulation.belady.hits).toBeGreaterThanOrEqual(sum('hits'))
  })

  it('bytes pay for whole experts of equal shares', async () => {
    const { trace } = await tracesOf(3)
    const of = async (hostBytes: number, scope: 'layer' | 'model', policy: 'lru' | 'static' = 'lru') =>
      (await simulate(trace, { cache: { hostBytes, scope, policy } })).perLayer.map(({ slots }) => slots)
    // A third of 30,000 bytes is ten experts of 1,000, or four of 2,500.
    expect(await of(30_000, 'layer')).toEqual([10, 10, 4])
    expect(await of(32_999, 'layer')).toEqual([10, 10, 4])
    expect(await of(30_000, 'model')).toEqual([20, 20, 4])
    expect(await of(3 * 7500, 'layer').catch(error => error.code)).toBe('ERR_MOE_CACHE_TOO_SMALL')
    // Of a fixed set four of the ten, and one of the four, are those that the others pass through.
    expect(await of(30_000, 'layer', 'static')).toEqual([6, 6, 3])
    expect(await of(30_000, 'model', 'static')).toEqual([12, 12, 3])
    expect((await of(3 * 11_000, 'layer', 'static'))[0]).toBe(7)
    expect((await of(3 * 12_000, 'layer', 'static'))[0]).toBe(12)
    expect(await of(1e12, 'layer')).toEqual([12, 20, 9])
    expect(await of(1e12, 'model')).toEqual([32, 32, 9])
  })

  it('a cache of all experts misses each once', async () => {
    const { calls, trace } = await tracesOf(4)
    const { misses, evictions } = await simulate(trace, { cache: { hostBytes: 1e9 } })
    const met = new Set(calls.flatMap(call => needed(call).map(expert => `${call.index}.${expert}`)))
    expect(misses).toBe(met.size)
    expect(evictions).toBe(0)
  })

  it('a trace without calls has none', async () => {
    const trace = await makeTrace(await temporaryDirectory(), LAYERS, [])
    const rates = { disk: 1e9, expert: 1e10 }
    expect(await simulate(trace, { cache: { slots: 5 }, rates })).toMatchObject({
      ...{ calls: 0, hits: 0, misses: 0, hitRate: 0, readBytes: 0, boundBy: null },
      belady: { hits: 0, hitRate: 0, readBytes: 0 },
    })
  })
})

describe('tokensPerCall', () => {
  const layers = [statedLayer(0, 6, 1), statedLayer(1, 6, 1)]
  const ids = (...list: number[]) => list.map(id => [id])
  it('cuts calls that belong together into steps of all their layers', async () => {
    const long: StatedCall[] = [
      { index: 0, rows: ids(0, 1, 2) },
      { index: 1, rows: ids(3, 4, 5) },
      { index: 0, rows: ids(5, 5) },
      { index: 0, rows: ids(4) },
      { index: 1, rows: ids(0) },
    ]
    const cut: StatedCall[] = [
      ...[ids(0, 1), ids(3, 4), ids(2), ids(5)].map((rows, i) => ({ index: i % 2, rows })),
      ...long.slice(2),
    ]
    const directories = [await temporaryDirectory(), await temporaryDirectory()]
    const recorded = await makeTrace(directories[0]!, layers, long)
    const stated = await makeTrace(directories[1]!, layers, cut)
    for (const scope of CACHE_SCOPES) {
      const cache = { slots: 2, scope }
      expect(await simulate(recorded, { cache, tokensPerCall: 2 })).toEqual({
        ...(await simulate(stated, { cache })),
      })
      expect((await simulate(recorded, { cache })).calls).toBe(5)
    }
  })
})

/** The most hits of any decisions: after a call any `slots` of the experts that were there or were needed. */
function mostHits(calls: readonly (readonly string[])[], slots: number, start: readonly string[][]): number {
  let best = new Map(start.map(held => [held.join(), { held, hits: 0 }]))
  for (const call of calls) {
    const next: typeof best = new Map()
    for (const { held, hits } of best.values()) {
      const gained = hits + call.filter(expert => held.includes(expert)).length
      for (const kept of subsets([...new Set([...held, ...call])].sort(), slots)) {
        const known = next.get(kept.join())
        if (!known || known.hits < gained) next.set(kept.join(), { held: kept, hits: gained })
      }
    }
    best = next
  }
  return Math.max(...[...best.values()].map(({ hits }) => hits))
}

function subsets(list: readonly string[], size: number): string[][] {
  if (list.length <= size) return [[...list]]
  if (size === 0) return [[]]
  const [first, ...rest] = list as [string, ...string[]]
  return [...subsets(rest, size - 1).map(subset => [first, ...subset]), ...subsets(rest, size)]
}

describe("Belady's bound", () => {
  it.each(Array.from({ length: 12 }, (_, seed) => seed))(
    'is the best of all decisions, trace %i',
    async seed => {
      const random = new Random(100 + seed)
      const layers = [statedLayer(0, 4, 1), statedLayer(1, 3, 1)]
      const calls: StatedCall[] = Array.from({ length: 10 }, () => {
        const index = random.integer(2)
        const rows = Array.from({ length: 1 + random.integer(3) }, () => [
          random.integer(layers[index]!.numExperts),
        ])
        return { index, rows }
      })
      const trace = await makeTrace(await temporaryDirectory(), layers, calls)
      const named = (own: readonly StatedCall[]) =>
        own.map(call => needed(call).map(expert => `${call.index}.${expert}`))
      const all = [0, 1, 2, 3].map(expert => `0.${expert}`).concat([0, 1, 2].map(expert => `1.${expert}`))
      for (const profile of [undefined, trace]) {
        const start = (experts: string[], slots: number) => (profile ? subsets(experts, slots) : [[]])
        const apart = await simulate(trace, { cache: { slots: 2, profile } })
        const ofLayer = (index: number) =>
          mostHits(
            named(calls.filter(call => call.index === index)),
            2,
            start(
              all.filter(name => name.startsWith(`${index}.`)),
              2,
            ),
          )
        expect(apart.belady.hits).toBe(ofLayer(0) + ofLayer(1))
        const shared = await simulate(trace, { cache: { slots: 2, scope: 'model', profile } })
        expect(shared.belady.hits).toBe(mostHits(named(calls), 4, start(all, 4)))
      }
    },
  )
})

describe('times', () => {
  const layer = [statedLayer(0, 10, 1, 1000)]
  const call = (...experts: number[]): StatedCall => ({ index: 0, rows: experts.map(id => [id]) })
  const timed = async (
    calls: StatedCall[],
    options: Partial<SimulateOptions> & Pick<SimulateOptions, 'rates'>,
  ) => {
    const trace = await makeTrace(await temporaryDirectory(), layer, calls)
    return simulate(trace, { cache: { slots: 10, readers: 2 }, ...options })
  }

  it('of misses alone: rounds of reads, each expert as it arrives', async () => {
    // Reads take 0.1 s and 1000 bytes at 1000 bytes/s; three misses come two after 2.1 s and one after 3.2 s; each is computed in 0.5 s.
    const { secondsPerCall, boundBy } = await timed([call(1, 2, 3)], {
      rates: { disk: 1000, readSeconds: 0.1, expert: 2000, callSeconds: 0.25 },
    })
    // 2.1, computed until 2.6 and 3.1; 3.2 until 3.7; and the call's own 0.25.
    for (const seconds of Object.values(secondsPerCall!)) expect(seconds).toBeCloseTo(3.95, 12)
    // Waiting 2.1 + 0.1 s, arithmetic 1.5 + 0.25 s.
    expect(boundBy).toBe('disk')
  })

  it('of hits: arithmetic alone, by rows where a function says so', async () => {
    const expert = (bytes: number, rows: number) => bytes / 1000 + rows
    const { secondsPerCall, boundBy } = await timed([call(1, 2), call(1, 1, 2)], {
      rates: { disk: 1e12, expert },
    })
    // The second call: two experts, 1 s each for bytes, and a second for each of its three rows. The first reads for 2 ns.
    expect(secondsPerCall!.p99).toBeCloseTo(5, 6)
    expect(secondsPerCall!.mean).toBeCloseTo(4.5, 6)
    expect(boundBy).toBe('compute')
  })

  it('of both: reads run beside the arithmetic of what is there', async () => {
    const { secondsPerCall } = await timed([call(1), call(1, 2)], { rates: { disk: 1000, expert: 500 } })
    // 1 s of reading, 2 s of arithmetic: 3 s. Then 2 s for the hit, while the miss is read in 1 s, and 2 s for that: 4 s.
    expect(secondsPerCall!.p50).toBeCloseTo(4, 12)
    expect(secondsPerCall!.mean).toBeCloseTo(3.5, 12)
  })
})

describe('what cannot be', () => {
  it.each<[string, unknown, string, RegExp]>([
    ['no cache', {}, 'ERR_MOE_INVALID_ARG_TYPE', /cache/],
    ['no size', { cache: {} }, 'ERR_MOE_INVALID_ARG_VALUE', /hostBytes/],
    ['two sizes', { cache: { slots: 5, hostBytes: 1e6 } }, 'ERR_MOE_INVALID_ARG_VALUE', /both/],
    ['too few slots', { cache: { slots: 2 } }, 'ERR_MOE_CACHE_TOO_SMALL', /give it 3/],
    ['too few bytes', { cache: { hostBytes: 29_999 } }, 'ERR_MOE_CACHE_TOO_SMALL', /give it 30000/],
    ['an unknown policy', { cache: { slots: 5, policy: 'fifo' } }, 'ERR_MOE_INVALID_ARG_VALUE', /'lfru'/],
    ['a misspelt option', { cache: { slots: 5, polici: 'lru' } }, 'ERR_MOE_UNKNOWN_OPTION', /policy/],
    ['a profile that is none', { cache: { slots: 5, profile: {} } }, 'ERR_MOE_INVALID_ARG_TYPE', /profile/],
    [
      'rates without a disk',
      { cache: { slots: 5 }, rates: { expert: 1 } },
      'ERR_MOE_INVALID_ARG_TYPE',
      /disk/,
    ],
    [
      'a disk that stands',
      { cache: { slots: 5 }, rates: { disk: 0, expert: 1 } },
      'ERR_MOE_INVALID_ARG_VALUE',
      /disk/,
    ],
    [
      'cuts of nothing',
      { cache: { slots: 5 }, tokensPerCall: 0 },
      'ERR_MOE_INVALID_ARG_VALUE',
      /tokensPerCall/,
    ],
  ])('%s', async (_, options, code, message) => {
    const { trace } = await tracesOf(5, LAYERS, 3)
    await expect(simulate(trace, options as SimulateOptions)).rejects.toMatchObject({
      ...{ code, message: expect.stringMatching(message) },
    })
  })

  it('the bytes and slots that an error names are enough', async () => {
    const { trace } = await tracesOf(5, LAYERS, 3)
    await expect(simulate(trace, { cache: { hostBytes: 30_000 } })).resolves.toMatchObject({ slots: 24 })
    await expect(simulate(trace, { cache: { slots: 3 } })).resolves.toMatchObject({ slots: 9 })
    for (const cache of [
      { hostBytes: 1, scope: 'model' },
      { slots: 1, scope: 'model' },
    ] as const) {
      const error = await simulate(trace, { cache }).catch((reason: unknown) => reason)
      const { neededBytes, neededSlots } = (error as { details: Record<string, number> }).details
      await simulate(trace, { cache: { scope: 'model', hostBytes: neededBytes, slots: neededSlots } })
      const less = { hostBytes: neededBytes && neededBytes - 1, slots: neededSlots && neededSlots - 1 }
      await expect(simulate(trace, { cache: { scope: 'model', ...less } })).rejects.toMatchObject({
        code: 'ERR_MOE_CACHE_TOO_SMALL',
      })
    }
  })

  it('a profile of other layers', async () => {
    const { trace } = await tracesOf(5, LAYERS, 3)
    const { trace: profile } = await tracesOf(5, LAYERS.slice(1), 3)
    await expect(simulate(trace, { cache: { slots: 5, profile } })).rejects.toMatchObject({
      code: 'ERR_MOE_INVALID_ARG_VALUE',
    })
  })
})

it('an abort ends it with its reason', async () => {
  const directory = await temporaryDirectory()
  await writeTrace(directory, LAYERS, randomCalls(new Random(6), LAYERS, 20))
  const reason = new Error('enough')
  await expect(simulate(directory, { cache: { slots: 5 }, signal: AbortSignal.abort(reason) })).rejects.toBe(
    reason,
  )
})

it('gives the event loop its turns', async () => {
  // Some ten milliseconds at least on any machine, and a turn is due after five.
  const layers = [statedLayer(0, 64, 8)]
  const random = new Random(7)
  const calls = Array.from({ length: 200 }, () => ({ index: 0, rows: randomRows(random, layers[0]!, 100) }))
  const trace = await makeTrace(await temporaryDirectory(), layers, calls)
  let [turns, isDone] = [0, false]
  const turn = () => {
    turns++
    if (!isDone) setImmediate(turn)
  }
  setImmediate(turn)
  await simulate(trace, { cache: { slots: 16 }, tokensPerCall: 1 })
  isDone = true
  expect(turns).toBeGreaterThanOrEqual(2)
})
