/** Reads a layer from files that the page cache holds, in turns with `cat` of them, and watches the memory of the first time. */

import { spawnSync } from 'node:child_process'
import { mkdtempSync, rmSync } from 'node:fs'
import os from 'node:os'
import path from 'node:path'
import { holding } from '../harness/layers.js'
import { peakRssBytes, resetPeakRss } from '../harness/memory.js'
import { countEndedChild, isDisturbed, leastDisturbed, watchLoad } from '../harness/other-load.js'
import { MoeLayer } from '../harness/package.js'
import { type Contestant, median, type RoundOptions, ratioOf, runRounds } from '../harness/rounds.js'
import type { BenchShape } from '../harness/shapes.js'
import { type PublishedKind, writeCheckpoint } from './checkpoint.js'
import type { LoadRow } from './goals-results.js'

export async function measureLoad(
  shape: BenchShape,
  dtype: PublishedKind,
  threads: number,
  { retries, ...rounds }: RoundOptions & { retries: number },
): Promise<LoadRow> {
  const directory = mkdtempSync(path.join(os.tmpdir(), 'sparse-experts-load-'))
  try {
    const { source, files, weightBytes } = await writeCheckpoint(shape, dtype, directory)
    const load = () => MoeLayer.load(source, { layer: 0, device: 'cpu', threads, ...holding(dtype) })
    const before = await resetPeakRss()
    const first = await load()
    const peakBytes = peakRssBytes() - before
    const heldBytes = first.stats().hostBytes
    first.dispose()
    const ours = contestantOf(async () => {
      const began = performance.now()
      const layer = await load()
      const ms = performance.now() - began
      layer.dispose()
      return ms
    })
    const { times, foreignCores } = await leastDisturbed(retries, async () => {
      const watch = watchLoad()
      const measured = await runRounds([ours, contestantOf(async () => catMs(files))], 0, rounds)
      return { times: measured, foreignCores: watch.stop() }
    })
    const [loads, cats] = [times[0]!.rounds, times[1]!.rounds]
    return {
      ...{ shape: shape.name, dtype, threads, weightBytes, heldBytes, peakBytes },
      ...{ loadMs: median(loads), catMs: median(cats), speed: ratioOf(cats, loads) },
      ...{ foreignCores, disturbed: isDisturbed(foreignCores) },
    }
  } finally {
    rmSync(directory, { recursive: true, force: true })
  }
}

export function contestantOf(measure: () => Promise<number>): Contestant {
  return {
    async times(_, __, calls) {
      const times: number[] = []
      for (let call = 0; call < calls; call++) times.push(await measure())
      return times
    },
  }
}

export function catMs(files: readonly string[]): number {
  const began = performance.now()
  const { status } = spawnSync('cat', files, { stdio: 'ignore' })
  if (status !== 0) throw new Error('cat failed')
  const ms = performance.now() - began
  // It never waits for cached files: what it took is what it computed.
  countEndedChild(ms)
  return ms
}
