/**
 * Inputs of the benchmark's calls: random hidden states, replayed routings, and as many copies of a layer as keep its weights out of
 * the caches from one call to the next. Seeded, never zeros.
 */

import { makeRouting } from '../../test/cases/layer-data.js'
import { Random } from '../../test/cases/random.js'
import type { BenchLoad } from './load.js'
import type { ForwardOptions, RecordedRouting } from './package.js'
import type { BenchShape } from './shapes.js'
import { type Trace, tracedRouting } from './trace.js'

/** A prime, so that rows do not repeat each other. */
const POOL_LENGTH = 131_071
let pool: Float32Array | undefined

/** `[numTokens, hiddenSize]` of normal numbers: runs of a pool from random places, for millions of them take long to draw. */
export function randomHidden(random: Random, numTokens: number, hiddenSize: number): Float32Array {
  pool ??= new Random(7).normals(POOL_LENGTH)
  const out = new Float32Array(numTokens * hiddenSize)
  for (let at = 0; at < out.length; ) {
    const run = pool.subarray(random.integer(POOL_LENGTH), POOL_LENGTH).subarray(0, out.length - at)
    out.set(run.subarray(0, 1024), at)
    at += Math.min(run.length, 1024)
  }
  return out
}

/** A routing for one call, or null where the gate runs. Undefined where no trace fits the shape. */
export function routingFor(
  shape: BenchShape,
  load: BenchLoad,
  numTokens: number,
  random: Random,
  traces: readonly Trace[],
): RecordedRouting | null | undefined {
  const { config, expertsOfAllRanks } = shape
  if (load === 'traced') return tracedRouting(traces, config, numTokens, random)
  if (expertsOfAllRanks !== undefined) {
    return rankRouting(load, numTokens, config.topK, config.numExperts, expertsOfAllRanks, random)
  }
  return load === 'gate' ? null : makeRouting(load, numTokens, config.topK, config.numExperts, random)
}

/** Tokens as a rank gets them: of those routed over all ranks' experts, the ones with at least one here; ids of others' are −1. */
export function rankRouting(
  load: Exclude<BenchLoad, 'traced'>,
  numTokens: number,
  topK: number,
  numExperts: number,
  expertsOfAllRanks: number,
  random: Random,
): RecordedRouting {
  const topkIds = new Int32Array(numTokens * topK)
  const topkWeights = new Float32Array(numTokens * topK)
  const of = load === 'gate' ? 'uniform' : load
  for (let token = 0; token < numTokens; ) {
    const drawn = makeRouting(of, numTokens, topK, expertsOfAllRanks, random)
    for (let row = 0; row < numTokens && token < numTokens; row++) {
      const ids = drawn.topkIds.subarray(row * topK, (row + 1) * topK)
      if (!ids.some(id => id < numExperts)) continue
      for (let k = 0; k < topK; k++) {
        const isHere = ids[k]! < numExperts
        topkIds[token * topK + k] = isHere ? ids[k]! : -1
        topkWeights[token * topK + k] = isHere ? drawn.topkWeights[row * topK + k]! : 0
      }
      token++
    }
  }
  return { topkIds, topkWeights }
}

/** What one call takes. */
export interface CallInput {
  hidden: Float32Array
  options: Omit<ForwardOptions, 'signal'>
}

/** Inputs that differ from call to call; few where a call is large and goes through all the experts anyway. */
export function makeInputs(
  shape: BenchShape,
  load: BenchLoad,
  numTokens: number,
  copies: number,
  traces: readonly Trace[] = [],
): CallInput[] | undefined {
  const random = new Random(1000 + numTokens)
  const { hiddenSize } = shape.config
  const count = Math.max(copies, Math.min(64, Math.ceil(128 / numTokens)), 2)
  const output = new Float32Array(numTokens * hiddenSize)
  // Separate rows per call as long as that is little memory; windows of them beyond.
  const numRows = Math.max(2 * numTokens, Math.min(count * numTokens, 512))
  const rows = randomHidden(random, numRows, hiddenSize)
  const inputs: CallInput[] = []
  for (let call = 0; call < count; call++) {
    const routing = routingFor(shape, load, numTokens, random, traces)
    if (routing === undefined) return undefined
    const first = (call * numTokens) % (numRows - numTokens + 1)
    inputs.push({
      hidden: rows.subarray(first * hiddenSize, (first + numTokens) * hiddenSize),
      options: { output, ...(routing && { routing }) },
    })
  }
  return inputs
}

/** Copies of a layer after which a cache of this size holds little of the first one. */
export function copiesOf(layerBytes: number, cacheBytes: number, times: number): number {
  return Math.max(1, Math.ceil((times * cacheBytes) / layerBytes))
}
