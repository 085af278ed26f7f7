/** Random weights, inputs and replayed routings for the cases of `test/cases/`. Never zeros; seeded. */

import type { ResolvedMoeConfig } from '../../lib/block/config.js'
import { allocateArray } from '../../lib/block/dtype.js'
import { resolveConfig } from '../../lib/block/resolve.js'
import type {
  DType,
  ExpertWeights,
  FloatArray,
  ForwardOptions,
  MoeWeights,
  WeightMatrix,
} from '../../lib/index.js'
import { fromFloat32, toFloat32 } from '../../lib/index.js'
import type { LayerCase, RoutingLoad } from './index.js'
import { Random } from './random.js'
import { readTrace, sliceTrace } from './trace.js'

const traces = await readTrace()

export interface LayerData {
  config: ResolvedMoeConfig
  weights: MoeWeights
  /** `[T, H]`, exactly representable in every dtype. */
  hidden: Float32Array
  options: CaseOptions
}

/** Options that both a layer and the reference take. */
export type CaseOptions = Pick<ForwardOptions, 'tokenIds' | 'sequenceLengths' | 'routing'> & {
  routerInput?: Float32Array
}

/** Makes everything that a case needs; the weights hold values of `dtype`. */
export function makeLayerData(layerCase: LayerCase, dtype: DType, seed = 1): LayerData {
  const config = resolveConfig(layerCase.config)
  const random = new Random(seed)
  const extras = new Set(layerCase.with ?? [])
  const { hiddenSize, intermediateSize, numExperts, sharedIntermediateSize, latentSize, topK } = config
  const outputs = numExperts + config.numIdentityExperts
  const size = latentSize || hiddenSize
  const normal = (length: number, scale: number) => random.normals(length, scale)
  const matrix = (rows: number, cols: number) => randomMatrix(random, dtype, rows, cols)
  const expert = (width: number, inputs: number, biased: boolean): ExpertWeights => ({
    ...gateUp(random, dtype, width, inputs, config.gated, extras),
    down: extras.has('transposed') ? transposed(matrix(inputs, width), inputs) : matrix(inputs, width),
    ...(biased
      ? {
          ...(config.gated ? { gateBias: normal(width, 0.5) } : {}),
          upBias: normal(width, 0.5),
          downBias: normal(inputs, 0.5),
        }
      : {}),
  })
  const weights: MoeWeights = {
    dtype: dtype === 'f32' ? 'bf16' : dtype,
    router: {
      weight: normal(outputs * hiddenSize, 2 * hiddenSize ** -0.5),
      ...(extras.has('routerBias') ? { bias: normal(outputs, 0.5) } : {}),
      ...(extras.has('selectionBias') ? { selectionBias: normal(outputs, 0.3) } : {}),
      ...(extras.has('perExpertScale') ? { perExpertScale: normal(outputs, 0.2).map(v => 1 + v) } : {}),
      ...(extras.has('inputScale')
        ? { inputScale: normal(hiddenSize, 0.3).map(v => (1 + v) * hiddenSize ** 0.5) }
        : {}),
      ...(config.hashRouted ? { hashTable: hashTable(random, VOCAB_SIZE, topK, numExperts) } : {}),
    },
    experts: Array.from({ length: numExperts }, () =>
      expert(intermediateSize, size, extras.has('expertBias')),
    ),
    ...(config.numSharedExperts > 0 ? { shared: expert(sharedIntermediateSize, hiddenSize, false) } : {}),
    ...(config.sharedGate !== 'plain' ? { sharedGate: normal(hiddenSize, hiddenSize ** -0.5) } : {}),
    ...(extras.has('sharedLogitBias') ? { sharedLogitBias: normal(1, 0.7) } : {}),
    ...(config.latentNormEpsilon > 0 ? { latentNorm: normal(latentSize, 0.3).map(v => 1 + v) } : {}),
    ...(latentSize
      ? { latentDown: matrix(latentSize, hiddenSize), latentUp: matrix(hiddenSize, latentSize) }
      : {}),
    ...(extras.has('outputBias') ? { outputBias: normal(hiddenSize, 0.5) } : {}),
  }
  const { numTokens } = layerCase
  const representable = () => toFloat32(fromFloat32(normal(numTokens * hiddenSize, 1), 'bf16'), 'bf16')
  const hidden = representable()
  const options: CaseOptions = {}
  if (config.routerInput === 'separate') options.routerInput = representable()
  if (config.hashRouted)
    options.tokenIds = Int32Array.from({ length: numTokens }, () => random.integer(VOCAB_SIZE))
  if (config.capacity?.kind === 'per_sequence' && numTokens > 4) {
    options.sequenceLengths = Int32Array.of(numTokens - 4, 0, 4)
  }
  if (layerCase.load !== 'gate')
    options.routing = makeRouting(layerCase.load, numTokens, topK, numExperts, random)
  return { config, weights, hidden, options }
}

const VOCAB_SIZE = 97

/** A prime, so that no row of a matrix begins where another does. */
const POOL_LENGTH = 65_537
const pools = new Map<string, FloatArray>()

/** `[rows, cols]` of normal numbers of variance 1/cols: runs of a pool from random places, for large layers take long to draw. */
function randomMatrix(random: Random, dtype: DType, rows: number, cols: number): FloatArray {
  const key = `${dtype} ${cols}`
  let pool = pools.get(key)
  if (!pool) pools.set(key, (pool = fromFloat32(new Random(cols).normals(POOL_LENGTH, cols ** -0.5), dtype)))
  const out = allocateArray(dtype, rows * cols)
  for (let at = 0; at < out.length; ) {
    const start = random.integer(POOL_LENGTH)
    const run = pool.subarray(start, start + Math.min(out.length - at, 4096))
    out.set(run, at)
    at += run.length
  }
  return out
}

function gateUp(
  random: Random,
  dtype: DType,
  width: number,
  inputs: number,
  gated: boolean,
  extras: ReadonlySet<string>,
): Pick<ExpertWeights, 'gate' | 'up'> {
  const rows = gated ? 2 * width : width
  const data = randomMatrix(random, dtype, rows, inputs)
  if (!gated) return { up: data }
  if (extras.has('interleaved')) {
    return {
      gate: { data, strides: [2 * inputs, 1] },
      up: { data, offset: inputs, strides: [2 * inputs, 1] },
    }
  }
  if (extras.has('transposed')) {
    // [inputs, 2 * width]: columns are gate then up.
    return { gate: { data, strides: [1, rows] }, up: { data, offset: width, strides: [1, rows] } }
  }
  return { gate: data.subarray(0, width * inputs), up: data.subarray(width * inputs) }
}

function transposed(data: FloatArray, rows: number): WeightMatrix {
  return { data, strides: [1, rows] }
}

function hashTable(random: Random, vocabSize: number, topK: number, numExperts: number): Int32Array {
  const table = new Int32Array(vocabSize * topK)
  for (let token = 0; token < vocabSize; token++)
    table.set(
      distinct(random, topK, numExperts, () => 1),
      token * topK,
    )
  return table
}

/** `count` distinct experts, drawn by weight. */
function distinct(
  random: Random,
  count: number,
  numExperts: number,
  weightOf: (expert: number) => number,
): number[] {
  const weights = Array.from({ length: numExperts }, (_, expert) => weightOf(expert))
  const chosen: number[] = []
  while (chosen.length < count) {
    const total = weights.reduce((sum, weight) => sum + weight, 0)
    let at = random.uniform() * total
    let expert = weights.findIndex(weight => (at -= weight) < 0)
    if (expert < 0 || weights[expert] === 0) expert = weights.findLastIndex(weight => weight > 0)
    chosen.push(expert)
    weights[expert] = 0
  }
  return chosen
}

/** A routing with a given load over experts: distinct ids per token, positive weights that sum to one (traced ones to the model's factor). */
export function makeRouting(
  load: Exclude<RoutingLoad, 'gate'>,
  numTokens: number,
  topK: number,
  numExperts: number,
  random: Random,
): { topkIds: Int32Array; topkWeights: Float32Array } {
  if (load === 'traced') return tracedRouting(numTokens, topK, numExperts, random)
  const topkIds = new Int32Array(numTokens * topK)
  const topkWeights = new Float32Array(numTokens * topK)
  const half = Math.max(topK, numExperts >> 1)
  for (let token = 0; token < numTokens; token++) {
    const ids =
      load === 'same_experts'
        ? Array.from({ length: topK }, (_, k) => k)
        : load === 'one_token_each'
          ? Array.from({ length: topK }, (_, k) => (token * topK + k) % numExperts)
          : distinct(random, topK, numExperts, expert =>
              load === 'zipf' ? 1 / (expert + 1) : load === 'half_empty' && expert >= half ? 0 : 1,
            )
    topkIds.set(ids, token * topK)
    const raw = ids.map(() => 0.1 + random.uniform())
    const sum = raw.reduce((a, b) => a + b, 0)
    topkWeights.set(
      raw.map(weight => weight / sum),
      token * topK,
    )
  }
  return { topkIds, topkWeights }
}

/** From a random place of a random layer's trace. */
function tracedRouting(numTokens: number, topK: number, numExperts: number, random: Random) {
  const fitting = traces.filter(trace => trace.topK === topK && trace.numExperts === numExperts)
  if (fitting.length === 0) throw new Error(`no trace is of ${numExperts} experts, top-${topK}`)
  const trace = fitting[random.integer(fitting.length)]!
  return sliceTrace(trace, random.integer(trace.numTokens), numTokens)
}
