/**
 * A layer beside the limits of the machine, which are measured before and after each block of calls: what the machine's other guests take,
 * they take from both. Medians stand beside medians.
 */

import { copiesOf } from '../harness/inputs.js'
import { callsOf, makeLayers } from '../harness/layers.js'
import type { LimitsProbe } from '../harness/limits-probe.js'
import type { BenchLoad } from '../harness/load.js'
import { bestOf, lastLevelCacheBytes, limitsFor, type MachineLimits } from '../harness/machine.js'
import { isDisturbed, leastDisturbed, watchLoad } from '../harness/other-load.js'
import { type CallWork, type Limits, rooflineMs } from '../harness/roofline.js'
import { type Contestant, median, type RoundOptions, ratioOf, runRounds } from '../harness/rounds.js'
import type { BenchShape } from '../harness/shapes.js'
import { layerStoredBytes, type WeightKind } from '../harness/weight-kinds.js'
import type { ShareRow, SkewRow } from './goals-results.js'

export interface ShareOptions extends RoundOptions {
  tokens: readonly number[]
  /** Rows of skewed calls; one token alone has no skew. */
  skewTokens: readonly number[]
  retries: number
}

const CACHE_TIMES = 16

export interface Shares {
  shares: ShareRow[]
  skews: SkewRow[]
  machine: MachineLimits
}

interface Entry {
  load: BenchLoad
  numTokens: number
  work: CallWork
  contestant: Contestant
  /** Around each of its blocks. */
  limits: [MachineLimits, MachineLimits][]
}

export async function measureShares(
  shape: BenchShape,
  dtype: WeightKind,
  threads: number,
  probe: LimitsProbe,
  options: ShareOptions,
): Promise<Shares> {
  const making = { shape, dtype, threads, device: 'cpu' }
  const layerBytes = layerStoredBytes(shape.config, dtype)
  const { layers } = makeLayers(making, copiesOf(layerBytes, lastLevelCacheBytes(), CACHE_TIMES), false)
  try {
    const cells = [
      ...options.tokens.map(numTokens => ({ load: 'gate' as BenchLoad, numTokens })),
      ...options.skewTokens.flatMap(numTokens =>
        (['uniform', 'zipf', 'same_experts'] as const).map(load => ({ load, numTokens })),
      ),
    ]
    const entries: Entry[] = cells.map(({ load, numTokens }) => {
      const calls = callsOf(shape, load, numTokens, layers)!
      const limits: Entry['limits'] = []
      return {
        load,
        numTokens,
        work: calls.work,
        contestant: contestantOf(calls.next, probe, limits),
        limits,
      }
    })
    const measured = await leastDisturbed(options.retries, async () => {
      const watch = watchLoad()
      const contestants = entries.map(({ contestant }) => contestant)
      const times = await runRounds(contestants, 0, options)
      // Those of the rounds: before them every contestant was tried out.
      const limits = entries.map((entry, index) =>
        times[index]!.rounds.length === 0 ? [] : entry.limits.slice(-options.rounds),
      )
      return { limits, times, foreignCores: watch.stop() }
    })
    const machine = measured.limits.flat(2).reduce(bestOf)
    const { foreignCores } = measured
    const name = { shape: shape.name, dtype, threads }
    const watched = { foreignCores, disturbed: isDisturbed(foreignCores) }
    const rows = entries.map((entry, index) => ({
      ...entry,
      rounds: measured.times[index]!.rounds,
      limits: measured.limits[index]!,
    }))
    return {
      machine,
      shares: rows
        .filter(({ load, rounds }) => load === 'gate' && rounds.length > 0)
        .map(({ numTokens, work, rounds, limits }) => {
          const least = limits.map(pair => rooflineMs(work, meanLimits(pair, dtype, threads)).ms)
          return {
            ...{ ...name, numTokens, medianMs: median(rounds), share: ratioOf(least, rounds), ...watched },
            weightGBs: work.weightBytes / median(rounds) / 1e6,
            bound: rooflineMs(work, limitsFor(machine, dtype, threads)!).bound,
          }
        }),
      skews: skewsOf(rows, work => rooflineMs(work, limitsFor(machine, dtype, threads)!).ms).map(skew => ({
        ...name,
        ...skew,
        ...watched,
      })),
    }
  } finally {
    for (const layer of layers) layer.dispose()
  }
}

function contestantOf(call: () => unknown, probe: LimitsProbe, limits: Entry['limits']): Contestant {
  return {
    async times(_, __, calls) {
      const before = await probe.measure()
      const times = Array.from({ length: calls }, () => {
        const began = performance.now()
        call()
        return performance.now() - began
      })
      limits.push([before, await probe.measure()])
      return times
    },
  }
}

function meanLimits(pair: readonly MachineLimits[], dtype: WeightKind, threads: number): Limits {
  const found = pair.map(limits => limitsFor(limits, dtype, threads, 'median')!)
  const mean = (of: (limits: Limits) => number) =>
    found.reduce((sum, limits) => sum + of(limits), 0) / found.length
  return {
    bytesPerSecond: mean(limits => limits.bytesPerSecond),
    flopsPerSecond: mean(limits => limits.flopsPerSecond),
  }
}

type Measured = Pick<Entry, 'load' | 'numTokens' | 'work'> & { rounds: readonly number[] }

/** Each skewed load beside the uniform one of as many tokens. */
export function skewsOf(
  rows: readonly Measured[],
  leastMs: (work: CallWork) => number,
): Pick<SkewRow, 'load' | 'numTokens' | 'ratio' | 'least'>[] {
  return rows.flatMap(({ load, numTokens, work, rounds }) => {
    if (load !== 'zipf' && load !== 'same_experts') return []
    const uniform = rows.find(other => other.load === 'uniform' && other.numTokens === numTokens)
    if (!uniform || uniform.rounds.length === 0 || rounds.length === 0) return []
    const least = leastMs(work) / leastMs(uniform.work)
    return [{ load, numTokens, ratio: ratioOf(rounds, uniform.rounds), least }]
  })
}
