/**
 * The one table of cases: what unit tests, backend tests and benchmarks run, and the bounds that each must hold.
 * `layers.json` and `bounds.json` are the table; the C++ tests read both.
 * A case is a config, a number of tokens and a routing load; `layer-data.ts` makes weights and inputs for it.
 */

import { readFileSync } from 'node:fs'
import path from 'node:path'
import type { MoeConfig, MoeShape } from '../../lib/index.js'

export { ERROR_BOUNDS as BOUNDS, INT8_ACTIVATIONS_BOUND } from '../../lib/devices/accuracy.js'

interface Table {
  /** What experts do, one variation each, with softmax routing. The C++ tests run these too. */
  kinds: readonly LayerRow<KindConfig>[]
  /** One per distinct arithmetic among the families, most of it in the routing. */
  families: readonly LayerRow<MoeConfig>[]
  /** Sizes that break things: odd, tiny, not multiples of any vector or tile. */
  sizes: readonly LayerSize[]
  /** Published shapes, by model, for benchmarks and plans. */
  models: Readonly<Record<string, MoeConfig>>
}

type KindConfig = MoeShape & { numExperts: number; numIdentityExperts?: number; topK: number }

interface LayerRow<Config> {
  name: string
  config: Config
  with?: LayerCase['with']
  /** Elements between the rows of a matrix. C++ only: arrays of the public interface are dense. */
  rowPadding?: number
}

interface LayerSize {
  hiddenSize: number
  intermediateSize: number
  numExperts: number
  topK: number
  numTokens: number
}

interface Bounds {
  /** Relative error of `topkWeights`, in every dtype. */
  topkWeights: number
  /** Ids must agree wherever the selection margin exceeds this. */
  selectionMargin: number
}

const readTable = (name: string): unknown =>
  JSON.parse(readFileSync(path.join(import.meta.dirname, name), 'utf8'))
const table = readTable('layers.json') as Table
const bounds = readTable('bounds.json') as Bounds

export const SELECTION_MARGIN = bounds.selectionMargin
export const WEIGHT_BOUND = bounds.topkWeights

/** How tokens spread over experts. `gate`: by the random router; `traced`: as in a trained model; all others are made and replayed. */
export type RoutingLoad =
  | 'gate'
  | 'uniform'
  | 'zipf'
  | 'same_experts'
  | 'one_token_each'
  | 'half_empty'
  | 'traced'

/** Those that fit any number of experts. */
export const ROUTING_LOADS: readonly RoutingLoad[] = [
  'gate',
  'uniform',
  'zipf',
  'same_experts',
  'one_token_each',
  'half_empty',
]

export interface LayerCase {
  name: string
  config: MoeConfig
  numTokens: number
  load: RoutingLoad
  /** Vectors and biases that the family has. */
  with?: readonly (
    | 'selectionBias'
    | 'routerBias'
    | 'perExpertScale'
    | 'inputScale'
    | 'sharedLogitBias'
    | 'expertBias'
    | 'outputBias'
    | 'interleaved'
    | 'transposed'
  )[]
}

const SOFTMAX = { scoringFunc: 'softmax', normTopkProb: true } as const

export const KIND_CASES: readonly LayerCase[] = table.kinds.map(({ name, config, with: extras }) => ({
  name,
  config: { family: 'kind', ...SOFTMAX, ...config },
  numTokens: 19,
  load: 'gate',
  with: extras,
}))

export const FAMILY_CASES: readonly LayerCase[] = table.families.map(({ name, config, with: extras }) => ({
  name,
  config: { family: name, ...config },
  numTokens: 19,
  load: 'gate',
  with: extras,
}))

function sized(size: LayerSize, load: RoutingLoad = 'gate'): LayerCase {
  const { numTokens, ...config } = size
  const { hiddenSize, intermediateSize, numExperts, topK } = config
  return {
    name: `H${hiddenSize} I${intermediateSize} E${numExperts} k${topK} T${numTokens} ${load}`,
    config: { family: 'sized', ...SOFTMAX, ...config },
    numTokens,
    load,
  }
}

export const SIZE_CASES: readonly LayerCase[] = table.sizes.map(size => sized(size))

const awkward = { hiddenSize: 96, intermediateSize: 72, numExperts: 16, topK: 4 }
const narrow = { hiddenSize: 33, intermediateSize: 47, numExperts: 60, topK: 6 }

/** Loads that break things, at one awkward size. */
export const LOAD_CASES: readonly LayerCase[] = ROUTING_LOADS.flatMap(load => [
  ...[0, 1, 64].map(numTokens => sized({ ...awkward, numTokens }, load)),
  sized({ ...narrow, numTokens: 130 }, load),
])

/** Consecutive tokens of a real text, on as many experts as the model that routed it has. */
export const TRACED_CASES: readonly LayerCase[] = [1, 64, 130].map(numTokens =>
  sized({ ...narrow, numExperts: 32, topK: 4, numTokens }, 'traced'),
)

export const LAYER_CASES: readonly LayerCase[] = [
  ...KIND_CASES,
  ...FAMILY_CASES,
  ...SIZE_CASES,
  ...LOAD_CASES,
  ...TRACED_CASES,
]

export const MODEL_SHAPES = table.models
