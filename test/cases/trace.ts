/** Recorded routings of the trained model, as a routing load. */

import path from 'node:path'
import type { RecordedRouting } from '../../lib/api/forward-arguments.js'
import { toFloat32 } from '../../lib/block/dtype.js'
import { readTrace as readTraceFiles } from '../../lib/trace/read-trace.js'

/** Routings of the example's model, recorded over its held-out text. */
export const TRACE_DIRECTORY = path.join(import.meta.dirname, '../../examples/tiny-deepseek/traces/heldout')

/** The routing of one sparse layer over a text. */
export interface Trace {
  layer: number
  numExperts: number
  numTokens: number
  topK: number
  /** `[numTokens, topK]` */
  topkIds: Int32Array
  topkWeights: Float32Array
}

/** Traces by layer. @throws Error where a place has no expert, or the weights were not recorded */
export async function readTrace(directory: string = TRACE_DIRECTORY): Promise<Trace[]> {
  const { layers, topkIds, topkWeights } = await readTraceFiles(directory)
  return layers.map(({ layer, numExperts, topK }, index) => {
    const ids = Int32Array.from(topkIds[index]!)
    if (!topkWeights) throw new Error(`${directory}: there are no weights`)
    if (ids.some(id => id >= numExperts))
      throw new Error(`${directory}: layer ${layer} has places without an expert`)
    return {
      ...{ layer, numExperts, topK, numTokens: ids.length / topK, topkIds: ids },
      topkWeights: toFloat32(topkWeights[index]!, 'f16'),
    }
  })
}

/** `numTokens` consecutive tokens from `begin`, from the beginning again after the last: the call of one text. */
export function sliceTrace(
  { numTokens: recorded, topK, topkIds, topkWeights }: Trace,
  begin: number,
  numTokens: number,
): RecordedRouting {
  const at = (_: unknown, slot: number) =>
    ((begin + Math.floor(slot / topK)) % recorded) * topK + (slot % topK)
  const slots = Array.from({ length: numTokens * topK }, at)
  return {
    topkIds: Int32Array.from(slots, slot => topkIds[slot]!),
    topkWeights: Float32Array.from(slots, slot => topkWeights[slot]!),
  }
}
