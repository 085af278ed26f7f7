/** What `simulate` says of the time of calls, beside what the calls take: by rates that were measured on another cache of the same layer. */

import { mkdtempSync, rmSync } from 'node:fs'
import os from 'node:os'
import path from 'node:path'
import { formatDuration, formatNumber, formatPercent } from '../../lib/cli/format.js'
import { measureRates } from '../../lib/cli/measure-rates.js'
import { isDisturbed, watchLoad } from '../harness/other-load.js'
import { type CachePolicyName, MoeLayer, readTrace, simulate } from '../harness/package.js'
import { disturbance } from '../harness/result-lines.js'
import { median } from '../harness/rounds.js'
import { expertBytesOf, type OffloadCheckpoint, Rows } from './offload-checkpoint.js'

export interface PredictionRow {
  shape: string
  policy: CachePolicyName
  /** Of the bytes of all experts. */
  share: number
  hitRate: number
  /** Median call of one row. */
  predictedMs: number
  measuredMs: number
  /** Predicted over measured: the goal is 0.85 to 1.15. */
  ratio: number
  /** Hits and misses were the same integers. */
  sameCounts: boolean
  foreignCores: number | null
  disturbed: boolean
}

const READERS = 2
/** Odd, so that both medians are one call: where half of the calls miss nothing, the mean of two would be neither kind. */
const CALLS = 201

export async function measurePredictions(checkpoint: OffloadCheckpoint): Promise<PredictionRow[]> {
  const { source, shape } = checkpoint
  const { numExperts, topK } = shape.config
  const load = (cache: { hostBytes: number; readers?: number; policy?: CachePolicyName }) =>
    MoeLayer.load(source, { layer: 0, device: 'cpu', cache })
  const expertBytes = await expertBytesOf(checkpoint)
  const rows: PredictionRow[] = []
  for (const share of [0.25, 0.5, 0.75])
    for (const policy of ['lru', 'lfu'] as const) {
      const cache = { hostBytes: Math.max(topK + 1, Math.floor(share * numExperts)) * expertBytes, policy }
      const directory = mkdtempSync(path.join(os.tmpdir(), 'sparse-experts-prediction-'))
      try {
        using layer = await load({ ...cache, readers: READERS })
        const inputs = new Rows(layer, 7)
        const recorder = layer.record(directory)
        const watch = watchLoad()
        const times: number[] = []
        for (let call = 0; call < CALLS; call++) {
          const row = inputs.next()
          const began = performance.now()
          await layer.forward(row)
          times.push(performance.now() - began)
        }
        await recorder.close()
        const counted = layer.stats().cache!
        const fresh = new Rows(layer, 8)
        const seeds = new Map<number, Float32Array>()
        const rowOf = (seed: number) => {
          if (!seeds.has(seed)) seeds.set(seed, fresh.fresh(1))
          return { hiddenStates: seeds.get(seed)!, options: {} }
        }
        // Beside the calls in time, so that the disk is the same.
        const rates = await measureRates(
          load as never,
          { numExperts, topK, expertBytes },
          rowOf,
          READERS,
          cache.hostBytes,
        )
        const foreignCores = watch.stop()
        const { hits, misses, hitRate, secondsPerCall } = await simulate(await readTrace(directory), {
          ...{
            cache: { ...cache, readers: READERS },
            rates: { disk: rates.disk, expert: rates.expert },
          },
        })
        const [predictedMs, measuredMs] = [secondsPerCall!.p50 * 1000, median(times)]
        rows.push({
          ...{ shape: shape.name, policy, share, hitRate, predictedMs, measuredMs },
          ratio: predictedMs / measuredMs,
          sameCounts: hits === counted.hits && misses === counted.misses,
          ...{ foreignCores, disturbed: isDisturbed(foreignCores) },
        })
      } finally {
        rmSync(directory, { recursive: true, force: true })
      }
    }
  return rows
}

export const predictionLine = (row: PredictionRow): string =>
  `simulate ${row.shape} ${row.policy} ${formatPercent(row.share)}: hits ${formatPercent(row.hitRate)}${row.sameCounts ? '' : ' (other counts!)'}, median call ` +
  `${formatDuration(row.predictedMs)} predicted, ${formatDuration(row.measuredMs)} measured: ${formatNumber(row.ratio)} (goal 0.85 to 1.15)${disturbance(row)}`
