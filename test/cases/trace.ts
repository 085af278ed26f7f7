/** Recorded routings of the trained model, as a routing load. */

import path from 'node:path'
import type { RecordedRouting } from '../../lib/api/forward-arguments.js'
import { readSafetensors } from './safetensors.js'

/** Routings of the example's model, recorded over its held-out text. */
export const TRACE_FILE = path.join(
  import.meta.dirname,
  '../../examples/tiny-deepseek/traces/heldout.safetensors',
)

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

/** Experts of the model that the traces are of; an expert that no token met is one all the same. */
const NUM_EXPERTS = 32

/** Traces by layer. @throws Error where a tensor of a pair is missing, or an id is none */
export async function readTrace(file: string = TRACE_FILE): Promise<Trace[]> {
  const tensors = await readSafetensors(file)
  const layers = [...tensors.keys()].flatMap(name => /^layers\.(\d+)\.topk_ids$/.exec(name)?.[1] ?? [])
  return layers
    .map(Number)
    .sort((a, b) => a - b)
    .map(layer => {
      const ids = tensors.get(`layers.${layer}.topk_ids`)!
      const weights = tensors.get(`layers.${layer}.topk_weights`)
      if (!weights || weights.shape.join() !== ids.shape.join())
        throw new Error(`${file}: layer ${layer} has no weights for its ids`)
      const [numTokens, topK] = ids.shape as [number, number]
      const topkIds = Int32Array.from(ids.data)
      if (topkIds.some(id => id >= NUM_EXPERTS))
        throw new Error(`${file}: layer ${layer} has ids from ${NUM_EXPERTS} on`)
      return {
        layer,
        numExperts: NUM_EXPERTS,
        numTokens,
        topK,
        topkIds,
        topkWeights: Float32Array.from(weights.data),
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
