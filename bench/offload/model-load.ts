/**
 * Loads many layers as one model from files that the page cache holds, in turns with a plain read of the same bytes, and compares the memory
 * that the first load took with what was planned.
 */

import { formatBytes, formatDuration, formatNumber, formatPercent } from '../../lib/cli/format.js'
import { catMs, contestantOf } from '../goals/load.js'
import { peakRssBytes, resetPeakRss } from '../harness/memory.js'
import { isDisturbed, watchLoad } from '../harness/other-load.js'
import { MoeModel } from '../harness/package.js'
import { disturbance } from '../harness/result-lines.js'
import { median, ratioOf, runRounds } from '../harness/rounds.js'
import type { OffloadCheckpoint } from './offload-checkpoint.js'

/** What is held and read for the layers, and how long that took. */
export interface ModelLoadRow {
  shape: string
  layers: number
  dtype: string
  weightBytes: number
  plannedBytes: number
  peakBytes: number
  /** Medians. */
  loadMs: number
  readMs: number
  /** Of the plain read's time to ours. */
  speed: ReturnType<typeof ratioOf>
  foreignCores: number | null
  disturbed: boolean
}

export async function measureModelLoad(
  { shape, source, files, weightBytes, numLayers, dtype }: OffloadCheckpoint,
  rounds: number,
): Promise<ModelLoadRow> {
  const options = { device: 'cpu', maxTokens: 1 } as const
  const plan = await MoeModel.plan(source, options)
  const before = await resetPeakRss()
  const first = await MoeModel.load(source, options)
  const peakBytes = peakRssBytes() - before
  first.dispose()
  const ours = contestantOf(async () => {
    const began = performance.now()
    const model = await MoeModel.load(source, options)
    const ms = performance.now() - began
    model.dispose()
    return ms
  })
  const watch = watchLoad()
  const [loads, reads] = await runRounds([ours, contestantOf(async () => catMs(files))], 0, {
    ...{ rounds, blockMs: 0 },
  })
  const foreignCores = watch.stop()
  return {
    ...{ shape: shape.name, layers: numLayers, dtype, weightBytes, peakBytes },
    plannedBytes: plan.memory[0]!.neededBytes,
    ...{ loadMs: median(loads!.rounds), readMs: median(reads!.rounds) },
    speed: ratioOf(reads!.rounds, loads!.rounds),
    ...{ foreignCores, disturbed: isDisturbed(foreignCores) },
  }
}

export const modelLoadLine = (row: ModelLoadRow): string =>
  `load ${row.shape} × ${row.layers} ${row.dtype}: ${formatBytes(row.weightBytes)} in ${formatDuration(row.loadMs)}, read in ${formatDuration(row.readMs)}: ` +
  `${formatNumber(row.speed.median)} of a plain read (goal 0.95); peak ${formatBytes(row.peakBytes)}, ` +
  `${formatPercent(row.peakBytes / row.plannedBytes)} of the plan (goal 102 %)${disturbance(row)}`
