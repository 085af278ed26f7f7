/**
 * Tokens that pass through the layers of a model with a cache, as in generation: hits that `simulate` says beside those that were counted, and what
 * a call takes, with experts read ahead and without. Between two calls of layers there is a pause, for what a model does there.
 */

import { mkdtempSync, rmSync } from 'node:fs'
import os from 'node:os'
import path from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { formatDuration, formatNumber, formatPercent } from '../../lib/cli/format.js'
import { isDisturbed, watchLoad } from '../harness/other-load.js'
import { type CachePrefetch, MoeModel, readTrace, simulate } from '../harness/package.js'
import { disturbance } from '../harness/result-lines.js'
import { median } from '../harness/rounds.js'
import { expertBytesOf, type OffloadCheckpoint, Rows } from './offload-checkpoint.js'

export interface PrefetchRow {
  shape: string
  layers: number
  /** Of the bytes of all experts. */
  share: number
  pauseMs: number
  /** Of all calls: counted without, counted with, and simulated with what is read ahead. The goal is 2 points between the last two. */
  hitRate: { off: number; on: number; predicted: number }
  /** Of what was read ahead, what a call then needed, and what was given up because a call came first. */
  usedShare: number
  droppedShare: number
  /** Median call of a layer that is not the first. */
  callMs: { off: number; on: number }
  foreignCores: number | null
  disturbed: boolean
}

const TOKENS = 150

export async function measurePrefetch(
  checkpoint: OffloadCheckpoint,
  share: number,
  pauseMs: number,
): Promise<PrefetchRow> {
  const { source, shape, numLayers } = checkpoint
  const { numExperts, topK } = shape.config
  const slots = Math.max(topK + 1, Math.floor(share * numExperts))
  const hostBytes = numLayers * slots * (await expertBytesOf(checkpoint))
  const watch = watchLoad()
  const off = await run(source, { hostBytes, prefetch: 'off' }, pauseMs)
  const on = await run(source, { hostBytes, prefetch: 'affinity' }, pauseMs)
  const foreignCores = watch.stop()
  const { prefetched, prefetchUsed, prefetchDropped } = on.cache
  const of = (count: number) => (prefetched === 0 ? 0 : count / prefetched)
  return {
    ...{ shape: shape.name, layers: numLayers, share, pauseMs },
    hitRate: { off: off.hitRate, on: on.hitRate, predicted: on.predicted },
    ...{ usedShare: of(prefetchUsed), droppedShare: of(prefetchDropped) },
    callMs: { off: median(off.times), on: median(on.times) },
    ...{ foreignCores, disturbed: isDisturbed(foreignCores) },
  }
}

async function run(source: string, cache: { hostBytes: number; prefetch: CachePrefetch }, pauseMs: number) {
  const directory = mkdtempSync(path.join(os.tmpdir(), 'sparse-experts-prefetch-'))
  try {
    await using model = await MoeModel.load(source, { device: 'cpu', cache, maxTokens: 1 })
    const recorder = model.record(directory)
    const rows = new Rows(model.layer(model.layers[0]!), 21)
    const times: number[] = []
    for (let token = 0; token < TOKENS; token++) {
      const row = rows.next()
      for (const layer of model.layers) {
        const began = performance.now()
        await model.forward(layer, row)
        if (layer !== model.layers[0]) times.push(performance.now() - began)
        await sleep(pauseMs)
      }
    }
    await recorder.close()
    const counted = model.stats().cache!
    const { hitRate: predicted } = await simulate(await readTrace(directory), { cache })
    return { times, cache: counted, hitRate: counted.hits / (counted.hits + counted.misses), predicted }
  } finally {
    rmSync(directory, { recursive: true, force: true })
  }
}

export const prefetchLine = ({ hitRate, callMs, ...row }: PrefetchRow): string =>
  `read ahead ${row.shape} × ${row.layers} ${formatPercent(row.share)}, ${row.pauseMs} ms between calls: hits ${formatPercent(hitRate.off)} without, ` +
  `${formatPercent(hitRate.on)} with (${formatPercent(hitRate.predicted)} predicted, ${formatNumber(100 * (hitRate.on - hitRate.predicted))} points off; goal 2), ` +
  `${formatPercent(row.usedShare)} of it used, ${formatPercent(row.droppedShare)} dropped; call ${formatDuration(callMs.off)} without, ${formatDuration(callMs.on)} with${disturbance(row)}`
