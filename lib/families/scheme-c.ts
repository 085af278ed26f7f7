/** Sigmoid scores with a selection bias under other names than DeepSeek's. */

import type { FamilyRow } from './family.js'
import {
  flag,
  GATE_UP_DOWN,
  mlpNaming,
  sharedMlp,
  sharedOfWidth,
  tensor,
  tensorWhen,
  W1_W2_W3,
} from './naming.js'
import { DEEPSEEK_EPSILON, noauxTc, scored } from './routing-rules.js'
import { byBlockType, byLayerTypes, everyLayer, fromLayer } from './sparse-layers.js'

const SIZES = { hiddenSize: 'hidden_size', numExperts: 'num_experts', topK: 'num_experts_per_tok' }
const LAYERS = { numLayers: 'num_hidden_layers' }
const SHARED = sharedMlp('shared_experts.', 'num_shared_experts')
const NEMOTRON_BIAS = flag('mlp_bias', false)

export const SCHEME_C_FAMILIES: readonly FamilyRow[] = [
  {
    modelTypes: ['kimi_linear'],
    ...SIZES,
    topK: 'num_experts_per_token',
    only: { moe_router_activation_func: ['sigmoid'], use_grouped_topk: [true] },
    routing: scored({
      score: 'sigmoid',
      norm: 'moe_renormalize',
      epsilon: DEEPSEEK_EPSILON,
      onlyAboveOne: true,
      scale: 'routed_scaling_factor',
      groups: { count: 'num_expert_group', kept: 'topk_group', score: 'top2_sum' },
    }),
    stacks: [
      {
        ...LAYERS,
        sparse: fromLayer('first_k_dense_replace', 'moe_layer_freq'),
        naming: [
          mlpNaming({
            block: 'block_sparse_moe.',
            router: { selectionBias: tensor('gate.e_score_correction_bias') },
            experts: W1_W2_W3,
            shared: SHARED,
          }),
        ],
      },
    ],
  },
  {
    modelTypes: ['exaone_moe'],
    ...SIZES,
    routing: noauxTc(),
    stacks: [
      {
        ...LAYERS,
        sparse: byLayerTypes(1),
        naming: [
          mlpNaming({
            router: { selectionBias: tensor('e_score_correction_bias', 'gate.e_score_correction_bias') },
            shared: SHARED,
          }),
        ],
      },
    ],
  },
  {
    modelTypes: ['afmoe'],
    ...SIZES,
    only: { score_func: ['sigmoid'], route_norm: [true], n_group: [1] },
    routing: scored({ score: 'sigmoid', norm: true, epsilon: DEEPSEEK_EPSILON, scale: 'route_scale' }),
    stacks: [
      {
        ...LAYERS,
        sparse: fromLayer('num_dense_layers'),
        naming: [
          mlpNaming({
            router: { weight: ['router.gate.weight'], selectionBias: tensor('expert_bias') },
            shared: SHARED,
          }),
        ],
      },
    ],
  },
  {
    modelTypes: ['hy_v3'],
    ...SIZES,
    routing: scored({
      score: 'sigmoid',
      norm: true,
      epsilon: DEEPSEEK_EPSILON,
      scale: 'router_scaling_factor',
    }),
    stacks: [
      {
        ...LAYERS,
        sparse: byLayerTypes(1),
        naming: [
          mlpNaming({
            router: { weight: ['router.gate.weight'], selectionBias: tensor('expert_bias') },
            shared: sharedMlp('shared_mlp.', 'num_shared_experts'),
          }),
        ],
      },
    ],
  },
  {
    // The factor multiplies the routed sum, which is the same as multiplying each weight.
    modelTypes: ['laguna'],
    ...SIZES,
    only: { moe_apply_router_weight_on_input: [false] },
    routing: scored({
      score: 'sigmoid',
      norm: true,
      scale: 'moe_routed_scaling_factor',
      scaleDefault: 1,
      softcap: 'moe_router_logit_softcapping',
    }),
    stacks: [
      {
        ...LAYERS,
        sparse: byLayerTypes(1),
        naming: [
          mlpNaming({
            router: { selectionBias: tensor('experts.e_score_correction_bias') },
            shared: sharedOfWidth('shared_expert.', 'shared_expert_intermediate_size'),
          }),
        ],
      },
    ],
  },
  {
    modelTypes: ['minimax_m2'],
    ...SIZES,
    numExperts: 'num_local_experts',
    only: { scoring_func: ['sigmoid'], use_routing_bias: [true], shared_intermediate_size: [0] },
    routing: scored({ score: 'sigmoid', norm: true }),
    stacks: [
      {
        ...LAYERS,
        sparse: everyLayer,
        naming: [
          mlpNaming({
            block: 'block_sparse_moe.',
            router: { selectionBias: tensor('e_score_correction_bias') },
            experts: W1_W2_W3,
          }),
        ],
      },
    ],
  },
  {
    modelTypes: ['lfm2_moe'],
    ...SIZES,
    routing: scored({
      score: 'sigmoid',
      norm: 'norm_topk_prob',
      epsilon: 1e-6,
      scale: 'routed_scaling_factor',
    }),
    stacks: [
      {
        ...LAYERS,
        sparse: fromLayer('num_dense_layers'),
        naming: [
          mlpNaming({
            block: 'feed_forward.',
            router: { selectionBias: tensorWhen(flag('use_expert_bias', true), 'expert_bias') },
            experts: W1_W2_W3,
          }),
        ],
      },
    ],
  },
  {
    modelTypes: ['bailing_moe_v2', 'llada2_moe'],
    ...SIZES,
    only: { score_function: ['sigmoid'], norm_topk_prob: [true] },
    routing: scored({
      score: 'sigmoid',
      norm: true,
      epsilon: DEEPSEEK_EPSILON,
      onlyAboveOne: true,
      scale: 'routed_scaling_factor',
      groups: { count: 'n_group', kept: 'topk_group', score: 'top2_sum' },
    }),
    stacks: [
      {
        ...LAYERS,
        numExtraLayers: 'num_nextn_predict_layers',
        sparse: fromLayer('first_k_dense_replace'),
        naming: [
          mlpNaming({
            router: {
              selectionBias: tensorWhen(flag('moe_router_enable_expert_bias', true), 'gate.expert_bias'),
            },
            experts: GATE_UP_DOWN,
            shared: SHARED,
          }),
        ],
      },
    ],
  },
  {
    modelTypes: ['nemotron_h'],
    ...SIZES,
    numExperts: 'n_routed_experts',
    activation: 'mlp_hidden_act',
    defaultActivation: 'relu2',
    routing: noauxTc(),
    shape: config => ({ gated: false, latentSize: config.integer('moe_latent_size', 0, 0) }),
    stacks: [
      {
        ...LAYERS,
        sparse: byBlockType,
        naming: ['backbone.layers.{L}.', 'model.layers.{L}.'].map(layer => ({
          layer,
          block: 'mixer.',
          router: { weight: ['gate.weight'], selectionBias: tensor('gate.e_score_correction_bias') },
          experts: [
            {
              kind: 'perExpert' as const,
              up: 'experts.{e}.up_proj',
              down: 'experts.{e}.down_proj',
              bias: NEMOTRON_BIAS,
            },
          ],
          shared: {
            count: config => config.integer('n_shared_experts', 0, 0),
            up: 'shared_experts.up_proj',
            down: 'shared_experts.down_proj',
            bias: NEMOTRON_BIAS,
          },
          latent: { down: 'fc1_latent_proj', up: 'fc2_latent_proj' },
        })),
      },
    ],
  },
]
