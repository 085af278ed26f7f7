/**
 * The one table of cases: what unit tests, backend tests and benchmarks run, and the bound that each must hold.
 * A case is a config, a number of tokens and a routing load; `layer-data.ts` makes weights and inputs for it.
 */

import type { MoeConfig } from '../lib/index.js'

export { ERROR_BOUNDS as BOUNDS } from '../lib/accuracy.js'

/** Ids must agree wherever the selection margin exceeds this. */
export const SELECTION_MARGIN = 1e-3

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
    | 'expertBias'
    | 'outputBias'
    | 'interleaved'
    | 'transposed'
  )[]
}

const small = { hiddenSize: 40, intermediateSize: 24 }

/** One case per distinct arithmetic among the families. */
export const FAMILY_CASES: readonly LayerCase[] = [
  family('mixtral', { ...small, numExperts: 8, topK: 2, scoringFunc: 'softmax', normTopkProb: true }),
  family('olmoe', { ...small, numExperts: 16, topK: 4, scoringFunc: 'softmax', normTopkProb: false }),
  family('deepseek_v2', {
    ...small,
    numExperts: 20,
    topK: 4,
    scoringFunc: 'softmax',
    normTopkProb: false,
    routedScalingFactor: 16,
    numExpertGroups: 5,
    topkGroup: 2,
    groupScore: 'max',
    numSharedExperts: 2,
  }),
  family(
    'deepseek_v3',
    {
      ...small,
      numExperts: 32,
      topK: 6,
      scoringFunc: 'sigmoid',
      normTopkProb: true,
      normEpsilon: 1e-20,
      routedScalingFactor: 2.5,
      numExpertGroups: 8,
      topkGroup: 4,
      groupScore: 'top2_sum',
      numSharedExperts: 1,
    },
    ['selectionBias'],
  ),
  family(
    'deepseek_v4',
    {
      ...small,
      numExperts: 16,
      topK: 6,
      scoringFunc: 'sqrtsoftplus',
      normTopkProb: true,
      normEpsilon: 1e-20,
      routedScalingFactor: 1.5,
      swigluLimit: 1.5,
      numSharedExperts: 1,
    },
    ['selectionBias'],
  ),
  family('deepseek_v4_hash', {
    ...small,
    numExperts: 16,
    topK: 6,
    scoringFunc: 'sqrtsoftplus',
    hashRouted: true,
    normTopkProb: true,
    normEpsilon: 1e-20,
    routedScalingFactor: 1.5,
    swigluLimit: 1.5,
    numSharedExperts: 1,
  }),
  family(
    'lfm2_moe',
    { ...small, numExperts: 12, topK: 3, scoringFunc: 'sigmoid', normTopkProb: true, normEpsilon: 1e-6 },
    ['selectionBias'],
  ),
  family(
    'laguna',
    {
      ...small,
      numExperts: 12,
      topK: 3,
      scoringFunc: 'sigmoid',
      normTopkProb: true,
      logitSoftcap: 2,
      routedScalingFactor: 1.7,
      numSharedExperts: 1,
    },
    ['selectionBias'],
  ),
  family(
    'ernie4_5_moe',
    {
      ...small,
      numExperts: 12,
      topK: 3,
      scoringFunc: 'softmax',
      normTopkProb: true,
      normFloor: 1e-12,
      numSharedExperts: 2,
    },
    ['selectionBias', 'expertBias'],
  ),
  family(
    'dbrx',
    { ...small, numExperts: 16, topK: 4, scoringFunc: 'softmax', normTopkProb: true, normOrder: 2 },
    ['transposed'],
  ),
  family('granitemoe', { ...small, numExperts: 12, topK: 4, scoringFunc: 'topk_softmax' }),
  family('jetmoe', { ...small, numExperts: 8, topK: 2, scoringFunc: 'topk_softmax' }, ['outputBias']),
  family('phimoe', {
    ...small,
    numExperts: 16,
    topK: 2,
    scoringFunc: 'sparsemixer',
    sparsemixerEpsilon: 0.01,
  }),
  family(
    'llama4',
    {
      ...small,
      numExperts: 16,
      topK: 1,
      scoringFunc: 'topk_sigmoid',
      weightOn: 'input',
      numSharedExperts: 1,
    },
    ['transposed'],
  ),
  family(
    'gpt_oss',
    {
      ...small,
      numExperts: 16,
      topK: 4,
      scoringFunc: 'topk_softmax',
      swigluLimit: 1.2,
      swigluAlpha: 1.702,
      swigluUpOffset: 1,
    },
    ['routerBias', 'expertBias', 'interleaved'],
  ),
  family(
    'gemma4',
    {
      ...small,
      numExperts: 16,
      topK: 4,
      scoringFunc: 'softmax',
      normTopkProb: true,
      activation: 'gelu_pytorch_tanh',
      routerInput: 'separate',
      routerNormEpsilon: 1e-6,
    },
    ['perExpertScale', 'inputScale'],
  ),
  family(
    'longcat_flash',
    {
      ...small,
      numExperts: 12,
      numIdentityExperts: 4,
      topK: 5,
      scoringFunc: 'softmax',
      normTopkProb: false,
      routedScalingFactor: 6,
    },
    ['selectionBias'],
  ),
  family('qwen2_moe', {
    ...small,
    numExperts: 15,
    topK: 4,
    scoringFunc: 'softmax',
    normTopkProb: false,
    numSharedExperts: 1,
    sharedIntermediateSize: 56,
    sharedGate: 'sigmoid',
  }),
  family('minimax', {
    ...small,
    numExperts: 8,
    topK: 2,
    scoringFunc: 'softmax',
    normTopkProb: true,
    numSharedExperts: 1,
    sharedIntermediateSize: 30,
    sharedGate: 'mix',
  }),
  family(
    'nemotron_h',
    {
      ...small,
      numExperts: 16,
      topK: 5,
      scoringFunc: 'sigmoid',
      normTopkProb: true,
      normEpsilon: 1e-20,
      activation: 'relu2',
      gated: false,
      latentSize: 28,
      numSharedExperts: 1,
      sharedIntermediateSize: 36,
    },
    ['selectionBias'],
  ),
  family('switch_transformers', {
    ...small,
    numExperts: 4,
    topK: 1,
    scoringFunc: 'softmax',
    normTopkProb: false,
    capacity: { kind: 'per_sequence', expertCapacity: 3 },
    activation: 'relu',
    gated: false,
  }),
  family(
    'nllb_moe',
    {
      ...small,
      numExperts: 6,
      topK: 2,
      scoringFunc: 'softmax',
      normTopkProb: true,
      normFloor: 2 ** -23,
      routedScalingFactor: 0.8,
      capacity: { kind: 'batch', tokenFraction: 0.3, batchPrioritized: true },
      activation: 'relu',
      gated: false,
    },
    ['expertBias'],
  ),
  family('gelu_experts', {
    ...small,
    numExperts: 6,
    topK: 2,
    scoringFunc: 'softmax',
    normTopkProb: true,
    activation: 'gelu',
  }),
]

function family(name: string, config: MoeConfig, extras: LayerCase['with'] = []): LayerCase {
  return { name, config: { family: name, ...config }, numTokens: 19, load: 'gate', with: extras }
}

function sized(
  hiddenSize: number,
  intermediateSize: number,
  numExperts: number,
  topK: number,
  numTokens: number,
  load: RoutingLoad = 'gate',
): LayerCase {
  return {
    name: `H${hiddenSize} I${intermediateSize} E${numExperts} k${topK} T${numTokens} ${load}`,
    config: {
      family: 'sized',
      hiddenSize,
      intermediateSize,
      numExperts,
      topK,
      scoringFunc: 'softmax',
      normTopkProb: true,
    },
    numTokens,
    load,
  }
}

/** Sizes that break things: odd, tiny, not multiples of any vector or tile. */
export const SIZE_CASES: readonly LayerCase[] = [
  sized(1, 1, 1, 1, 3),
  sized(8, 17, 2, 1, 5),
  sized(17, 8, 3, 2, 7),
  sized(31, 1, 31, 6, 9),
  sized(1, 31, 60, 2, 4),
  sized(96, 160, 64, 6, 33),
  sized(160, 96, 65, 8, 17),
  sized(176, 192, 127, 8, 31),
  sized(192, 176, 160, 6, 13),
  sized(704, 31, 256, 8, 16),
  sized(31, 704, 288, 10, 12),
  sized(1408, 17, 384, 8, 5),
  sized(17, 1408, 512, 10, 4),
  sized(2880, 8, 31, 22, 3),
  sized(8, 2880, 60, 22, 3),
  sized(31, 17, 1024, 22, 40),
  sized(704, 1408, 3, 2, 6),
  sized(1408, 704, 2, 1, 8),
  sized(160, 704, 8, 8, 65),
]

/** Loads that break things, at one awkward size. */
export const LOAD_CASES: readonly LayerCase[] = ROUTING_LOADS.flatMap(load => [
  sized(96, 72, 16, 4, 0, load),
  sized(96, 72, 16, 4, 1, load),
  sized(96, 72, 16, 4, 64, load),
  sized(33, 47, 60, 6, 130, load),
])

/** Consecutive tokens of a real text, on as many experts as the model that routed it has. */
export const TRACED_CASES: readonly LayerCase[] = [1, 64, 130].map(numTokens =>
  sized(33, 47, 32, 4, numTokens, 'traced'),
)

export const LAYER_CASES: readonly LayerCase[] = [
  ...FAMILY_CASES,
  ...SIZE_CASES,
  ...LOAD_CASES,
  ...TRACED_CASES,
]

/** Published shapes, by model, for benchmarks and plans. */
export const MODEL_SHAPES = {
  'DeepSeek-V2-Lite': {
    hiddenSize: 2048,
    intermediateSize: 1408,
    numExperts: 64,
    topK: 6,
    scoringFunc: 'softmax',
    normTopkProb: false,
    numSharedExperts: 2,
  },
  'OLMoE-1B-7B': {
    hiddenSize: 2048,
    intermediateSize: 1024,
    numExperts: 64,
    topK: 8,
    scoringFunc: 'softmax',
    normTopkProb: false,
  },
  'Qwen3-30B-A3B': {
    hiddenSize: 2048,
    intermediateSize: 768,
    numExperts: 128,
    topK: 8,
    scoringFunc: 'softmax',
    normTopkProb: true,
  },
  'Mixtral-8x7B': {
    hiddenSize: 4096,
    intermediateSize: 14336,
    numExperts: 8,
    topK: 2,
    scoringFunc: 'softmax',
    normTopkProb: true,
  },
  'gpt-oss-20b': {
    hiddenSize: 2880,
    intermediateSize: 2880,
    numExperts: 32,
    topK: 4,
    scoringFunc: 'topk_softmax',
    swigluLimit: 7,
    swigluAlpha: 1.702,
    swigluUpOffset: 1,
  },
  'Qwen3-Next-80B': {
    hiddenSize: 2048,
    intermediateSize: 512,
    numExperts: 512,
    topK: 10,
    scoringFunc: 'softmax',
    normTopkProb: true,
    numSharedExperts: 1,
    sharedGate: 'sigmoid',
  },
  small: {
    hiddenSize: 1024,
    intermediateSize: 512,
    numExperts: 16,
    topK: 2,
    scoringFunc: 'softmax',
    normTopkProb: true,
  },
} as const satisfies Record<string, MoeConfig>
