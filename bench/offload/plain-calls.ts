/** Calls of layers whose experts all lie in memory beside those of a build from before forwards could be taken in steps: what that costs them. */

import { formatDuration, formatNumber } from '../../lib/cli/format.js'
import { environment } from '../harness/machine.js'
import { isDisturbed, watchLoad } from '../harness/other-load.js'
import { disturbance } from '../harness/result-lines.js'
import { median } from '../harness/rounds.js'
import type { BenchShape } from '../harness/shapes.js'
import { compareBuilds, importBuild } from '../layer/compare-builds.js'

export interface PlainRow {
  shape: string
  dtype: 'bf16'
  numTokens: number
  /** Layers made of each build; figures are medians of theirs. */
  layers: number
  nowMs: number
  earlierMs: number
  /** Now over earlier: the goal is 1.01. */
  ratio: { median: number; low: number; high: number }
  foreignCores: number | null
  disturbed: boolean
}

const TOKENS = [1, 64]

/** @param before another checkout, after `npm ci` there */
export async function measurePlain(
  shape: BenchShape,
  before: string,
  layers: number,
  rounds: number,
): Promise<PlainRow[]> {
  const other = await importBuild(before)
  const watch = watchLoad()
  const options = { tokens: TOKENS, layers, rounds, threads: environment().cores }
  const compared = await compareBuilds(shape, 'bf16', other, options)
  const foreignCores = watch.stop()
  return compared.map(({ numTokens, now, earlier, ratios }) => ({
    ...{ shape: shape.name, dtype: 'bf16' as const, numTokens, layers },
    ...{ nowMs: median(now), earlierMs: median(earlier) },
    ratio: { median: median(ratios), low: Math.min(...ratios), high: Math.max(...ratios) },
    ...{ foreignCores, disturbed: isDisturbed(foreignCores) },
  }))
}

export const plainLine = (row: PlainRow): string =>
  `all in memory ${row.shape} T=${row.numTokens}: before ${formatDuration(row.earlierMs)}, now ${formatDuration(row.nowMs)}: ` +
  `${formatNumber(row.ratio.median)} of it (${formatNumber(row.ratio.low)} to ${formatNumber(row.ratio.high)}, ${row.layers} layers; goal 1.01)${disturbance(row)}`
