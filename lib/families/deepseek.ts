/** DeepSeek V2, V3 and V4. */

import type { RoutingRule } from '../block/routing.js'
import type { ConfigReader } from './parts/config-reader.js'
import { DEEPSEEK_SHARED, DEEPSEEK_V3_ONLY, deepseekV3Stack } from './parts/deepseek-block.js'
import type { Condition, FamilyRow, Naming, RoutingSizes } from './parts/family.js'
import { LAYERS, ROUTED_SIZES } from './parts/fields.js'
import { mlpNaming, tensorWhen } from './parts/layouts.js'
import { DEEPSEEK_EPSILON, noauxTc, readGroups } from './parts/scoring.js'
import { everyLayer, fromLayer } from './parts/sparse-layers.js'

/** Greedy, or the best groups by their maximum; the scores are never renormalised. */
function v2Routing(config: ConfigReader, sizes: RoutingSizes): RoutingRule {
  const method = config.string('topk_method')
  if (method !== 'greedy' && method !== 'group_limited_greedy') {
    config.fail('topk_method', `'${method}' is not supported; supported: greedy, group_limited_greedy`)
  }
  if (config.boolean('norm_topk_prob', false)) {
    config.fail(
      'norm_topk_prob',
      'is true: published implementations disagree on what deepseek_v2 then computes',
    )
  }
  return {
    scoringFunc: 'softmax',
    ...sizes,
    normTopkProb: false,
    routedScalingFactor: config.number('routed_scaling_factor', 1),
    ...(method === 'group_limited_greedy'
      ? readGroups(config, { count: 'n_group', kept: 'topk_group', score: 'max', required: true })
      : {}),
  }
}

const isHashLayer: Condition = (config, layer) => {
  const types = config.list('mlp_layer_types', 'string')
  return types ? types[layer] === 'hash_moe' : layer < config.integer('num_hash_layers', 0)
}

function v4Routing(config: ConfigReader, sizes: RoutingSizes, layer: number): RoutingRule {
  return {
    scoringFunc: config.string('scoring_func', 'sqrtsoftplus') as 'sqrtsoftplus' | 'sigmoid',
    ...sizes,
    hashRouted: isHashLayer(config, layer),
    normTopkProb: true,
    normEpsilon: DEEPSEEK_EPSILON,
    routedScalingFactor: config.number('routed_scaling_factor'),
  } as RoutingRule
}

const hasNoTable: Condition = (config, layer) => !isHashLayer(config, layer)

/** Names of the published files, and those of a save by transformers. */
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
    modelTypes: ['deepseek_v2'],
    ...ROUTED_SIZES,
    only: { scoring_func: ['softmax'] },
    routing: v2Routing,
    stacks: [
      {
        ...LAYERS,
        sparse: fromLayer('first_k_dense_replace', 'moe_layer_freq'),
        naming: [mlpNaming({ shared: DEEPSEEK_SHARED })],
      },
    ],
  },
  {
    modelTypes: ['deepseek_v3', 'deepseek_v32'],
    ...ROUTED_SIZES,
    only: DEEPSEEK_V3_ONLY,
    routing: noauxTc({ groupsRequired: true }),
    stacks: [deepseekV3Stack(fromLayer('first_k_dense_replace', 'moe_layer_freq'))],
  },
  {
    modelTypes: ['deepseek_v4'],
    ...ROUTED_SIZES,
    // With softmax scores the published implementations disagree on the renormalisation.
    only: { scoring_func: ['sqrtsoftplus', 'sigmoid'], norm_topk_prob: [true] },
    routing: v4Routing,
    // The published inference code and transformers clamp the shared expert as they do the routed ones.
    shape: config => {
      const limit = config.number('swiglu_limit', 0)
      return { swigluLimit: limit, sharedSwigluLimit: limit }
    },
    stacks: [{ ...LAYERS, sparse: everyLayer, naming: V4_NAMING }],
  },
]
