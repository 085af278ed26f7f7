/**
 * Measures what only the goals need: shares of the limits with skew, or loading. `npm run bench:goals` runs it once for each of the two, for
 * the memory of one would disturb the other.
 */

import { formatBytes, formatDuration, formatNumber, formatPercent } from '../../lib/cli/format.js'
import { runCommand } from '../harness/command-line.js'
import { openLimitsProbe } from '../harness/limits-probe.js'
import { bestOf, environment } from '../harness/machine.js'
import { disturbance } from '../harness/result-lines.js'
import { revision, writeResults } from '../harness/results.js'
import { isStoredForm } from '../harness/weight-kinds.js'
import { GOAL_SHAPES } from './goal-shapes.js'
import { GOALS_USAGE, type GoalsOptions, parseGoalsOptions } from './goals-options.js'
import type { GoalsResults, LoadRow, ShareRow, SkewRow } from './goals-results.js'
import { measureLoad } from './load.js'
import { measureShares } from './shares.js'

/** Tokens of a call: those that the goals name. */
const TOKENS = [1, 8, 64, 512]
const SKEW_TOKENS = [8, 64, 512]
const BLOCK_MS = 150

async function main(options: GoalsOptions): Promise<void> {
  const results: GoalsResults = {
    ...{ benchmark: 'sparse-experts goals', date: new Date().toISOString(), revision: revision() },
    ...{ environment: environment(), machine: null, shares: [], skews: [], loads: [] },
  }
  const { cores } = results.environment
  const shapes = GOAL_SHAPES.filter(({ name }) => options.shapes.includes(name))
  const { rounds, retries, quick } = options
  const common = { rounds, retries, blockMs: quick ? 20 : BLOCK_MS }
  for (const shape of shapes) {
    for (const dtype of options.dtypes) {
      if (options.parts.includes('load') && dtype !== 'f32') {
        const row = await measureLoad(shape, dtype, cores, common)
        results.loads.push(row)
        console.log(loadLine(row))
      }
      if (!options.parts.includes('shares')) continue
      for (const threads of new Set(options.threads.map(count => count || cores))) {
        const probe = openLimitsProbe(threads)
        const { shares, skews, machine } = await measureShares(shape, dtype, threads, probe, {
          ...common,
          tokens: quick ? [1, 64] : TOKENS,
          // Skew is judged with all cores, and is about the sorting of tokens, whatever the experts hold.
          skewTokens: threads !== cores || isStoredForm(dtype) ? [] : quick ? [64] : SKEW_TOKENS,
        }).finally(() => probe.close())
        results.shares.push(...shares)
        results.skews.push(...skews)
        results.machine = results.machine ? bestOf(results.machine, machine) : machine
        for (const line of [...shares.map(shareLine), ...skews.map(skewLine)]) console.log(line)
      }
    }
  }
  if (options.json) writeResults(options.json, results)
}

const nameOf = (row: { shape: string; dtype: string; threads: number; numTokens?: number }) =>
  `${row.shape} ${row.dtype} ${row.threads}t`.padEnd(28) +
  (row.numTokens === undefined ? '' : `T=${row.numTokens}`).padStart(6)

const shareLine = (row: ShareRow) =>
  `${nameOf(row)}  ${formatDuration(row.medianMs).padStart(8)}  ${formatPercent(row.share.median)} of what the ${row.bound === 'memory' ? 'memory' : 'arithmetic'} allows` +
  ` (${formatPercent(row.share.low)}–${formatPercent(row.share.high)})${row.weightGBs === undefined ? '' : `, ${formatNumber(row.weightGBs)} GB/s of weights`}${disturbance(row)}`

const skewLine = (row: SkewRow) =>
  `${nameOf(row)}  ${row.load}: ${formatNumber(row.ratio.median)}× uniform; by bytes and FLOPs ${formatNumber(row.least)}×${disturbance(row)}`

const loadLine = (row: LoadRow) =>
  `${nameOf(row)}  load ${formatDuration(row.loadMs)}, cat ${formatDuration(row.catMs)}; ${formatBytes(row.weightBytes)},` +
  (row.heldBytes === undefined ? '' : ` held ${formatBytes(row.heldBytes)},`) +
  ` at the peak ${formatBytes(row.peakBytes)}${disturbance(row)}`

await runCommand(GOALS_USAGE, args => main(parseGoalsOptions(args)))
