/** Time and energy per token of several decoders, in turns, so that all meet the same moments of the machine. */

import { median } from '../../lib/cli/load-chart.js'
import { type Decoder, WINDOW } from './decoder/index.js'
import type { EnergyCounter } from './energy.js'

export interface TimeFigures {
  /** Of a token of a single sequence: all feed-forwards, and everything. Medians. */
  feedForwardMs: number
  totalMs: number
  /** All feed-forwards of a window read at once, per token. A median. */
  batchFeedForwardMs: number
  /** Of the GPU on CUDA, else of the processor packages, per token of a single sequence; null: not measured. */
  joules: number | null
}

/** Tokens written before any is timed. */
const WARM_UP = 32
const BATCH_RUNS = 7
/** Enough for a counter that moves every millisecond. */
const ENERGY_ROUNDS = 8

export async function measureModels(
  decoders: readonly Decoder[],
  text: Uint8Array,
  meter: EnergyCounter | null,
): Promise<TimeFigures[]> {
  const runs = decoders.map(decoder => ({
    decoder,
    sequence: decoder.newSequence(),
    feedForward: [] as number[],
    total: [] as number[],
    batch: [] as number[],
  }))
  for (const [position, token] of text.subarray(0, WINDOW).entries()) {
    for (const { decoder, sequence, feedForward, total } of runs) {
      const { feedForwardMs, totalMs } = await decoder.forward([{ sequence, tokens: [token] }])
      if (position < WARM_UP) continue
      feedForward.push(feedForwardMs)
      total.push(totalMs)
    }
  }
  for (let run = 0; run <= BATCH_RUNS; run++) {
    for (const { decoder, batch } of runs) {
      const tokens = text.subarray(0, WINDOW)
      const { feedForwardMs } = await decoder.forward([{ sequence: decoder.newSequence(), tokens }])
      if (run > 0) batch.push(feedForwardMs / WINDOW)
    }
  }
  const joules = meter ? await measureEnergy(decoders, text, meter) : decoders.map(() => null)
  return runs.map(({ feedForward, total, batch }, index) => ({
    feedForwardMs: median(feedForward),
    totalMs: median(total),
    batchFeedForwardMs: median(batch),
    joules: joules[index]!,
  }))
}

async function measureEnergy(
  decoders: readonly Decoder[],
  text: Uint8Array,
  meter: EnergyCounter,
): Promise<number[]> {
  const rounds = decoders.map(() => [] as number[])
  for (let round = 0; round < ENERGY_ROUNDS; round++) {
    for (const [index, decoder] of decoders.entries()) {
      const sequence = decoder.newSequence()
      const joules = await meter.measure(async () => {
        for (const token of text.subarray(0, WINDOW)) await decoder.forward([{ sequence, tokens: [token] }])
      })
      rounds[index]!.push(joules / WINDOW)
    }
  }
  return rounds.map(median)
}
