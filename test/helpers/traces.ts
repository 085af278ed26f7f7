/** Traces for tests: random routings with favourites, written and read as those of a recording are. */

import type { TraceLayer } from '../../lib/trace/format.js'
import { readTrace } from '../../lib/trace/read-trace.js'
import type { Trace } from '../../lib/trace/trace.js'
import { TraceWriter } from '../../lib/trace/writer.js'
import type { Random } from '../cases/random.js'

/** A call as a test states it. */
export interface StatedCall {
  /** Index of the layer. */
  index: number
  /** `[rows][topK]`, −1 where no expert ran. */
  rows: number[][]
  micros?: number
  isJoined?: boolean
}

export const statedLayer = (
  layer: number,
  numExperts: number,
  topK: number,
  expertBytes = 1000,
): TraceLayer => ({ layer, numExperts, topK, expertBytes, dtype: 'bf16', configHash: '0123456789abcdef' })

export async function writeTrace(
  directory: string,
  layers: readonly TraceLayer[],
  calls: readonly StatedCall[],
  options: { segmentBytes?: number; withWeights?: boolean } = {},
): Promise<void> {
  const { segmentBytes, withWeights = false } = options
  const writer = new TraceWriter(directory, layers, { withWeights, segmentBytes })
  for (const { index, rows, micros = 0, isJoined = false } of calls) {
    const topkIds = Int32Array.from(rows.flat())
    writer.add({ index, topkIds, topkWeights: Uint16Array.from(topkIds, id => id + 1), micros, isJoined })
  }
  await writer.end()
}

export async function makeTrace(
  directory: string,
  layers: readonly TraceLayer[],
  calls: readonly StatedCall[],
): Promise<Trace> {
  await writeTrace(directory, layers, calls)
  return readTrace(directory)
}

/** Rows of distinct experts, low numbers more often, about one in eight places without an expert. */
export function randomRows(random: Random, { numExperts, topK }: TraceLayer, rows: number): number[][] {
  return Array.from({ length: rows }, () => {
    const row = new Set<number>()
    while (row.size < topK) row.add(Math.floor(numExperts * random.uniform() ** 2))
    return [...row].map(id => (random.uniform() < 1 / 8 ? -1 : id))
  })
}

/** Calls of all layers in turn, mostly of one row, some of many. */
export function randomCalls(random: Random, layers: readonly TraceLayer[], steps: number): StatedCall[] {
  return Array.from({ length: steps }, () => (random.uniform() < 0.1 ? 1 + random.integer(20) : 1)).flatMap(
    rows => layers.map((layer, index) => ({ index, rows: randomRows(random, layer, rows) })),
  )
}
