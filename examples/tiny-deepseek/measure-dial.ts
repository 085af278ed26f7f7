/** What a setting of the dial costs and saves: held-out loss and arithmetic over whole windows, weight bytes and time token by token. */

import { median } from '../../lib/cli/load-chart.js'
import { type Decoder, type Dial, heldOutLoss, WINDOW } from './decoder/index.js'

export interface DialFigures {
  setting: string
  dial: Dial
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

export function describeDial(dial: Dial): string {
  const [[name, value] = ['as trained', '']] = Object.entries(dial)
  return `${name} ${value}`.trim()
}

/** Figures of every setting; times are taken in turns, a token each, so that all settings meet the same moments of the machine. */
export async function measureDial(
  decoder: Decoder,
  text: Uint8Array,
  dials: readonly Dial[],
  windows: number,
  onProgress: (done: number) => void = () => {},
): Promise<DialFigures[]> {
  const singles = await timeSingles(decoder, text, dials)
  const figures: DialFigures[] = []
  for (const [index, dial] of dials.entries()) {
    const { loss, numTokens, routing } = await heldOutLoss(decoder, text, windows, dial)
    const works = routing.flat().map(({ work }) => work)
    const experts = works.reduce((sum, { expertTokens }) => sum + expertTokens.reduce((a, b) => a + b, 0), 0)
    figures.push({
      setting: describeDial(dial),
      dial,
      expertsPerToken: experts / numTokens / decoder.sparseLayers.length,
      heldOutLoss: loss,
      flopsPerToken: works.reduce((sum, { flops }) => sum + flops, 0) / numTokens,
      ...singles[index]!,
    })
    onProgress(index + 1)
  }
  return figures
}

async function timeSingles(decoder: Decoder, text: Uint8Array, dials: readonly Dial[]) {
  const runs = dials.map(dial => ({ dial, sequence: decoder.newSequence(), times: [] as number[], bytes: 0 }))
  const tokens = text.subarray(0, WINDOW / 2)
  // The first tokens only warm up.
  const warmUp = 16
  for (const [position, token] of tokens.entries()) {
    for (const run of runs) {
      const { feedForwardMs, routing } = await decoder.forward(
        [{ sequence: run.sequence, tokens: [token] }],
        run.dial,
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
