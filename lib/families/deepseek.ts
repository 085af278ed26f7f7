/** DeepSeek V2, V3, V4, Kimi, and the models that took over V3's block with its names. */

import type { RoutingRule } from '../block/routing.js'
import type { ConfigReader } from './config-reader.js'
import type { Condition, FamilyRow, Naming, RoutingSizes, Stack } from './family.js'
import { mlpNaming, sharedMlp, tensor, tensorWhen } from './naming.js'
import { DEEPSEEK_EPSILON, noauxTc, readGroups, scored } from './routing-rules.js'
import { byLayerTypes, everyLayer, fromLayer } from './sparse-layers.js'

const SIZES = { hiddenSize: 'hidden_size', numExperts: 'n_routed_experts', topK: 'num_experts_per_tok' }

const SHARED = sharedMlp('shared_experts.', 'n_shared_experts')

const V3_NAMING = mlpNaming({
  router: { selectionBias: tensor('gate.e_score_correction_bias') },
  shared: SHARED,
})

function v3Stack(sparse: Condition): Stack {
  return {
    numLayers: 'num_hidden_layers',
    numExtraLayers: 'num_nextn_predict_layers',
    sparse,
    naming: [V3_NAMING],
  }
}

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
    shared: { ...SHARED, gate: 'shared_experts.w1', up: 'shared_experts.w3', down: 'shared_experts.w2' },
  },
  mlpNaming({
    router: {
      selectionBias: tensorWhen(hasNoTable, 'gate.e_score_correction_bias'),
      hashTable: tensorWhen(isHashLayer, 'gate.tid2eid'),
    },
    shared: SHARED,
  }),
]

const V3_ONLY = { scoring_func: ['sigmoid'], topk_method: ['noaux_tc'] }

export const DEEPSEEK_FAMILIES: readonly FamilyRow[] = [
  {
    modelTypes: ['deepseek_v2'],
    ...SIZES,
    only: { scoring_func: ['softmax'] },
    routing: v2Routing,
    stacks: [
      {
        numLayers: 'num_hidden_layers',
        sparse: fromLayer('first_k_dense_replace', 'moe_layer_freq'),
        naming: [mlpNaming({ shared: SHARED })],
      },
    ],
  },
  {
    modelTypes: ['deepseek_v3', 'deepseek_v32', 'kimi_k2'],
    ...SIZES,
    only: V3_ONLY,
    routing: noauxTc({ groupsRequired: true }),
    stacks: [v3Stack(fromLayer('first_k_dense_replace', 'moe_layer_freq'))],
  },
  {
    modelTypes: ['deepseek_v4'],
    ...SIZES,
    // With softmax scores the published implementations disagree on the renormalisation.
    only: { scoring_func: ['sqrtsoftplus', 'sigmoid'], norm_topk_prob: [true] },
    routing: v4Routing,
    // The published inference code and transformers clamp the shared expert as they do the routed ones.
    shape: config => {
      const limit = config.number('swiglu_limit', 0)
      return { swigluLimit: limit, sharedSwigluLimit: limit }
    },
    stacks: [{ numLayers: 'num_hidden_layers', sparse: everyLayer, naming: V4_NAMING }],
  },
  {
    modelTypes: ['glm4_moe', 'glm4v_moe', 'dots1'],
    ...SIZES,
    only: { scoring_func: ['sigmoid', 'noaux_tc'] },
    routing: noauxTc(),
    stacks: [v3Stack(fromLayer('first_k_dense_replace'))],
  },
  {
    modelTypes: ['glm4_moe_lite'],
    ...SIZES,
    only: V3_ONLY,
    routing: noauxTc(),
    stacks: [v3Stack(byLayerTypes(1))],
  },
  {
    modelTypes: ['glm_moe_dsa'],
    ...SIZES,
    only: V3_ONLY,
    routing: noauxTc(),
    stacks: [v3Stack(byLayerTypes(3))],
  },
  {
    modelTypes: ['solar_open'],
    ...SIZES,
    only: V3_ONLY,
    routing: noauxTc(),
    stacks: [v3Stack(everyLayer)],
  },
  {
    modelTypes: ['mistral4'],
    ...SIZES,
    routing: scored({
      score: 'softmax',
      norm: 'norm_topk_prob',
      epsilon: DEEPSEEK_EPSILON,
      scale: 'routed_scaling_factor',
      groups: { count: 'n_group', kept: 'topk_group', score: 'top2_sum' },
    }),
    stacks: [
      {
        numLayers: 'num_hidden_layers',
        sparse: fromLayer('first_k_dense_replace'),
        naming: [
          mlpNaming({
            experts: [
              { kind: 'fused', gateUp: 'experts.gate_up_proj', down: 'experts.down_proj', major: 'output' },
              {
                kind: 'perExpert',
                gate: 'experts.{e}.gate_proj',
                up: 'experts.{e}.up_proj',
                down: 'experts.{e}.down_proj',
              },
            ],
            shared: SHARED,
          }),
        ],
      },
    ],
  },
]
