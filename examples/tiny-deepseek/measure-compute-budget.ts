/** What a compute budget costs and saves: held-out loss and arithmetic over whole windows, weight bytes and time token by token. */

import { median } from '../../lib/cli/load-chart.js'
import { type ComputeBudget, type Decoder, heldOutLoss, WINDOW } from './decoder/index.js'

export interface ComputeBudgetFigures {
  setting: string
  computeBudget: ComputeBudget
  /** Mean over tokens and sparse layers. */
  expertsPerToken: number
  /** Nats per byte. */
  heldOutLoss: number
  /** Of all sparse layers, per token. */
  flopsPerToken: number
  /** Of all sparse layers, per token of a single sequence. */
  weightBytesPerToken: number
  /** Of all feed-forwards, per token of a single sequence: a median. */
  feedForwardMs: number
}

export function describeComputeBudget(computeBudget: ComputeBudget): string {
  const [[name, value] = ['as trained', '']] = Object.entries(computeBudget)
  return `${name} ${value}`.trim()
}

/** Figures of every setting; times are taken in turns, a token each, so that all settings meet the same moments of the machine. */
export async function measureComputeBudget(
  decoder: Decoder,
  text: Uint8Array,
  computeBudgets: readonly ComputeBudget[],
  windows: number,
  onProgress: (done: number) => void = () => {},
): Promise<ComputeBudgetFigures[]> {
  const singles = await timeSingles(decoder, text, computeBudgets)
  const figures: ComputeBudgetFigures[] = []
  for (const [index, computeBudget] of computeBudgets.entries()) {
    const { loss, numTokens, routing } = await heldOutLoss(decoder, text, windows, computeBudget)
    const works = routing.flat().map(({ work }) => work)
    const experts = works.reduce((sum, { expertTokens }) => sum + expertTokens.reduce((a, b) => a + b, 0), 0)
    figures.push({
      setting: describeComputeBudget(computeBudget),
      computeBudget,
      expertsPerToken: experts / numTokens / decoder.sparseLayers.length,
      heldOutLoss: loss,
      flopsPerToken: works.reduce((sum, { flops }) => sum + flops, 0) / numTokens,
      ...singles[index]!,
    })
    onProgress(index + 1)
  }
  return figures
}

async function timeSingles(decoder: Decoder, text: Uint8Array, computeBudgets: readonly ComputeBudget[]) {
  const runs = computeBudgets.map(computeBudget => ({
    computeBudget,
    sequence: decoder.newSequence(),
    times: [] as number[],
    bytes: 0,
  }))
  const tokens = text.subarray(0, WINDOW / 2)
  // The first tokens only warm up.
  const warmUp = 16
  for (const [position, token] of tokens.entries()) {
    for (const run of runs) {
      const { feedForwardMs, routing } = await decoder.forward(
        [{ sequence: run.sequence, tokens: [token] }],
        run.computeBudget,
      )
      if (position < warmUp) continue
      run.times.push(feedForwardMs)
      run.bytes += routing.reduce((sum, { work }) => sum + work.weightBytes, 0)
    }
  }
  return runs.map(({ times, bytes }) => ({
    feedForwardMs: median(times),
    weightBytesPerToken: bytes / times.length,
  }))
}
