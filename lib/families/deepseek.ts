/** DeepSeek V2, V3 and V4. */

import type { RoutingRule } from '../block/routing.js'
import type { ConfigReader } from './parts/config-reader.js'
import { DEEPSEEK_SHARED, DEEPSEEK_V3_DEFAULTS, DEEPSEEK_V3_ONLY } from './parts/deepseek-block.js'
import type { Condition, FamilyRow, Naming, RoutingSizes } from './parts/family.js'
import { LAYERS, ROUTED_SIZES } from './parts/fields.js'
import { mlpNaming, sharedMlp, tensorWhen } from './parts/layouts.js'
import { DEEPSEEK_EPSILON, readGroups } from './parts/scoring.js'
import { sparseLayers } from './parts/sparse-layers.js'

/** Greedy, the best groups by their maximum, or DeepSeek-VL2's selection bias. */
function v2Routing(config: ConfigReader, sizes: RoutingSizes): RoutingRule {
  const method = v2Method(config)
  const scale = config.number('routed_scaling_factor', 1)
  const asked = config.boolean('norm_topk_prob', false) && sizes.topK > 1
  // Only DeepSeek-VL2's code knows noaux_tc, and it renormalises, then scales. Of the others one scales or renormalises, one does both.
  if (asked && method !== 'noaux_tc' && scale !== 1) {
    config.fail(
      'norm_topk_prob',
      'is true with a routed_scaling_factor: published implementations disagree on what deepseek_v2 then computes',
    )
  }
  const groups =
    method === 'greedy'
      ? {}
      : readGroups(config, {
          count: 'n_group',
          kept: 'topk_group',
          // The code of DeepSeek-VL2 masks with 0.
          score: method === 'noaux_tc' ? 'top2_sum_zeroed' : 'max',
        })
  return {
    scoringFunc: config.string('scoring_func', 'softmax') as 'softmax' | 'sigmoid',
    ...sizes,
    ...(asked ? { normTopkProb: true, normEpsilon: DEEPSEEK_EPSILON } : { normTopkProb: false }),
    routedScalingFactor: scale,
    ...groups,
  } as RoutingRule
}

/** `gready` is how DeepSeek's config class spells its default. */
const V2_METHODS = ['greedy', 'gready', 'group_limited_greedy', 'noaux_tc']

function v2Method(config: ConfigReader): string {
  const method = config.string('topk_method', 'greedy')
  if (!V2_METHODS.includes(method)) {
    config.fail('topk_method', `'${method}' is not supported; supported: ${V2_METHODS.join(', ')}`)
  }
  return method === 'gready' ? 'greedy' : method
}

const isBiased: Condition = config => v2Method(config) === 'noaux_tc'

const isHashLayer: Condition = (config, layer) => {
  const types = config.list('mlp_layer_types', 'string')
  return types ? types[layer] === 'hash_moe' : layer < config.integer('num_hash_layers', 0, 3)
}

function v4Routing(config: ConfigReader, sizes: RoutingSizes, layer: number): RoutingRule {
  return {
    scoringFunc: config.string('scoring_func', 'sqrtsoftplus') as 'sqrtsoftplus' | 'sigmoid',
    ...sizes,
    hashRouted: isHashLayer(config, layer),
    normTopkProb: true,
    normEpsilon: DEEPSEEK_EPSILON,
    routedScalingFactor: config.number('routed_scaling_factor', 1.5),
  } as RoutingRule
}

const hasNoTable: Condition = (config, layer) => !isHashLayer(config, layer)

/** Names of the published files, and those that transformers has in memory. */
const V4_NAMING: readonly Naming[] = [
  {
    layer: 'layers.{L}.',
    block: 'ffn.',
    router: {
      weight: ['gate.weight'],
      selectionBias: tensorWhen(hasNoTable, 'gate.bias'),
      hashTable: tensorWhen(isHashLayer, 'gate.tid2eid'),
    },
    experts: [{ kind: 'perExpert', gate: 'experts.{e}.w1', up: 'experts.{e}.w3', down: 'experts.{e}.w2' }],
    shared: {
      ...DEEPSEEK_SHARED,
      gate: 'shared_experts.w1',
      up: 'shared_experts.w3',
      down: 'shared_experts.w2',
    },
  },
  mlpNaming({
    router: {
      selectionBias: tensorWhen(hasNoTable, 'gate.e_score_correction_bias'),
      hashTable: tensorWhen(isHashLayer, 'gate.tid2eid'),
    },
    shared: DEEPSEEK_SHARED,
  }),
]

export const DEEPSEEK_FAMILIES: readonly FamilyRow[] = [
  {
    models: 'DeepSeek-V2, V2-Lite, VL2, OCR, MoE (v1)',
    routed: 'softmax, groups by their best expert; VL2 (27B): sigmoid with selection bias',
    modelTypes: ['deepseek_v2', 'deepseek', 'deepseek_vl_v2', 'deepseek_ocr2'],
    ...ROUTED_SIZES,
    only: { scoring_func: ['softmax', 'sigmoid'] },
    // With topk_method greedy.
    ignored: ['n_group', 'topk_group'],
    routing: v2Routing,
    stacks: [
      {
        ...LAYERS,
        sparse: sparseLayers(),
        naming: [
          mlpNaming({
            router: { selectionBias: tensorWhen(isBiased, 'gate.e_score_correction_bias') },
            shared: sharedMlp('shared_experts.', 'n_shared_experts', { default: 2 }),
          }),
        ],
      },
    ],
  },
  {
    models: 'DeepSeek-V3, R1, V3.1, V3.2',
    routed: 'sigmoid with selection bias, groups by their two best',
    modelTypes: ['deepseek_v3', 'deepseek_v32'],
    ...ROUTED_SIZES,
    only: DEEPSEEK_V3_ONLY,
    ...DEEPSEEK_V3_DEFAULTS,
  },
  {
    models: 'DeepSeek-V4',
    routed: '√softplus with selection bias; first layers by token id',
    modelTypes: ['deepseek_v4'],
    ...ROUTED_SIZES,
    // With softmax scores the published implementations disagree on the renormalisation.
    only: { scoring_func: ['sqrtsoftplus', 'sigmoid'], norm_topk_prob: [true] },
    routing: v4Routing,
    // The published inference code and transformers clamp the shared expert as they do the routed ones.
    shape: (config, layer) => {
      const limit = config.number('swiglu_limit', 10)
      const numShared = DEEPSEEK_SHARED.count(config, layer)
      return { swigluLimit: limit, ...(numShared > 0 ? { sharedSwigluLimit: limit } : {}) }
    },
    stacks: [{ ...LAYERS, sparse: sparseLayers(), naming: V4_NAMING }],
  },
]
