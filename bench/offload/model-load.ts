/**
 * Loads many layers as one model from files that the page cache holds, in turns with a plain read of the same bytes, and compares the memory
 * that the first load took with what was planned. `npm run bench:offload`.
 */

import { mkdtempSync, rmSync } from 'node:fs'
import os from 'node:os'
import path from 'node:path'
import { parseArgs } from 'node:util'
import { formatBytes, formatDuration, formatNumber, formatPercent } from '../../lib/cli/format.js'
import { writeLayers } from '../goals/checkpoint.js'
import { catMs, contestantOf } from '../goals/load.js'
import { environment } from '../harness/machine.js'
import { peakRssBytes, resetPeakRss } from '../harness/memory.js'
import { isDisturbed, watchLoad } from '../harness/other-load.js'
import { MoeModel } from '../harness/package.js'
import { disturbance } from '../harness/result-lines.js'
import { revision, writeResults } from '../harness/results.js'
import { median, ratioOf, runRounds } from '../harness/rounds.js'
import { shapeNamed } from '../harness/shapes.js'

const USAGE = `Usage: npm run bench:offload -- [--shape small] [--layers 8] [--dtype bf16] [--rounds 7] [--json FILE]

Writes a checkpoint of layers, each in a file of its own, to the temporary directory; it takes as much memory as disk.
Goals: the speed of a load at least 0.95 of a plain read of the same bytes, peak memory at most 1.02 of the plan.
`

/** What is held and read for the layers, and how long that took. */
interface ModelLoadRow {
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

const { values } = parseArgs({
  options: {
    shape: { type: 'string', default: 'small' },
    layers: { type: 'string', default: '8' },
    dtype: { type: 'string', default: 'bf16' },
    rounds: { type: 'string', default: '7' },
    json: { type: 'string' },
    help: { type: 'boolean', default: false },
  },
})
const shape = shapeNamed(values.shape)
if (values.help || !shape || !['bf16', 'f16', 'fp8'].includes(values.dtype)) {
  process.stdout.write(USAGE)
  process.exit(values.help ? 0 : 2)
}

const directory = mkdtempSync(path.join(os.tmpdir(), 'sparse-experts-model-load-'))
try {
  const numLayers = Number(values.layers)
  const { source, files, weightBytes } = await writeLayers(
    shape,
    values.dtype as 'bf16',
    directory,
    numLayers,
  )
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
  const rounds = { rounds: Number(values.rounds), blockMs: 0 }
  const [loads, reads] = await runRounds([ours, contestantOf(async () => catMs(files))], 0, rounds)
  const foreignCores = watch.stop()
  const row: ModelLoadRow = {
    ...{ shape: shape.name, layers: numLayers, dtype: values.dtype, weightBytes, peakBytes },
    plannedBytes: plan.memory[0]!.neededBytes,
    ...{ loadMs: median(loads!.rounds), readMs: median(reads!.rounds) },
    speed: ratioOf(reads!.rounds, loads!.rounds),
    ...{ foreignCores, disturbed: isDisturbed(foreignCores) },
  }
  console.log(
    `${row.shape} × ${row.layers} ${row.dtype}: ${formatBytes(weightBytes)} in ${formatDuration(row.loadMs)}, read in ${formatDuration(row.readMs)}: ` +
      `${formatNumber(row.speed.median)} of a plain read; peak ${formatBytes(peakBytes)}, ${formatPercent(peakBytes / row.plannedBytes)} of the plan${disturbance(row)}`,
  )
  if (values.json)
    writeResults(values.json, {
      ...{ benchmark: 'sparse-experts offload', date: new Date().toISOString(), revision: revision() },
      ...{ environment: environment(), modelLoads: [row] },
    })
} finally {
  rmSync(directory, { recursive: true, force: true })
}
