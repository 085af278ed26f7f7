/** Families with fused expert tensors or their own arithmetic: DBRX, Granite, JetMoE, Llama 4, gpt-oss, Gemma 4, LongCat, Aria. */

import type { FamilyRow, Stack } from './family.js'
import { GATE_UP_DOWN, mlpNaming, sharedMlp, tensor } from './naming.js'
import { scored, topkSoftmax } from './routing-rules.js'
import { byInterleaveStep, everyLayer } from './sparse-layers.js'

const LAYERS = { numLayers: 'num_hidden_layers' }
const LOCAL_SIZES = {
  hiddenSize: 'hidden_size',
  numExperts: 'num_local_experts',
  topK: 'num_experts_per_tok',
}

const GRANITE_EXPERTS = [
  {
    kind: 'fused' as const,
    gateUp: 'input_linear.weight',
    down: 'output_linear.weight',
    major: 'output' as const,
  },
]

/** gpt-oss: `(up + 1) * gate * sigmoid(1.702 * gate)`, gate capped and up clamped at the limit. */
const GPT_OSS_SHAPE = { swigluAlpha: 1.702, swigluUpOffset: 1 }
const GPT_OSS_LIMIT = 7

/** Biases everywhere, matrices input-major where they are not quantised; gate and up alternate, or are halves. */
function gptOssStack(interleaved: boolean): Stack {
  const experts = {
    gateUp: 'experts.gate_up_proj',
    down: 'experts.down_proj',
    major: 'input',
    interleaved,
  } as const
  return {
    ...LAYERS,
    sparse: everyLayer,
    naming: [
      mlpNaming({
        router: { weight: ['router.weight'], bias: tensor('router.bias') },
        experts: [{ kind: 'fused', ...experts, bias: () => true }],
      }),
    ],
  }
}

export const FUSED_FAMILIES: readonly FamilyRow[] = [
  {
    modelTypes: ['dbrx'],
    hiddenSize: 'd_model',
    numExperts: 'ffn_config.moe_num_experts',
    topK: 'ffn_config.moe_top_k',
    activation: 'ffn_config.ffn_act_fn.name',
    routing: (config, sizes) => {
      const order = 'ffn_config.moe_normalize_expert_weights'
      return config.isNull(order)
        ? { scoringFunc: 'softmax', ...sizes, normTopkProb: false }
        : { scoringFunc: 'softmax', ...sizes, normTopkProb: true, normOrder: config.number(order, 1) }
    },
    stacks: [
      {
        numLayers: 'n_layers',
        sparse: everyLayer,
        naming: [
          {
            layer: 'transformer.blocks.{L}.',
            block: 'ffn.',
            router: { weight: ['router.layer.weight'] },
            experts: [
              { kind: 'stackedRows', gate: 'experts.mlp.w1', up: 'experts.mlp.v1', down: 'experts.mlp.w2' },
            ],
          },
        ],
      },
    ],
  },
  {
    modelTypes: ['granitemoe', 'granitemoeshared', 'granitemoehybrid'],
    ...LOCAL_SIZES,
    routing: topkSoftmax,
    stacks: [
      {
        ...LAYERS,
        sparse: everyLayer,
        naming: [
          mlpNaming({
            block: 'block_sparse_moe.',
            router: { weight: ['router.layer.weight'] },
            experts: GRANITE_EXPERTS,
            shared: {
              count: config => (config.integer('shared_intermediate_size', 0, 0) > 0 ? 1 : 0),
              gateUp: '/shared_mlp.input_linear',
              down: '/shared_mlp.output_linear',
            },
          }),
        ],
      },
    ],
  },
  {
    modelTypes: ['jetmoe'],
    ...LOCAL_SIZES,
    activation: 'activation_function',
    routing: topkSoftmax,
    stacks: [
      {
        ...LAYERS,
        sparse: everyLayer,
        naming: [
          mlpNaming({
            router: { weight: ['router.layer.weight'] },
            experts: GRANITE_EXPERTS,
            outputBias: tensor('bias'),
          }),
        ],
      },
    ],
  },
  {
    modelTypes: ['llama4'],
    ...LOCAL_SIZES,
    routing: (_config, sizes) => ({ scoringFunc: 'topk_sigmoid', ...sizes }),
    shape: () => ({ weightOn: 'input' }),
    stacks: [
      {
        ...LAYERS,
        sparse: byInterleaveStep,
        naming: [
          mlpNaming({
            block: 'feed_forward.',
            router: { weight: ['router.weight'] },
            experts: [
              { kind: 'fused', gateUp: 'experts.gate_up_proj', down: 'experts.down_proj', major: 'input' },
              GATE_UP_DOWN[0]!,
            ],
            shared: sharedMlp('shared_expert.', '', { count: () => 1 }),
          }),
        ],
      },
    ],
  },
  {
    modelTypes: ['gpt_oss'],
    ...LOCAL_SIZES,
    routing: topkSoftmax,
    shape: config => ({ ...GPT_OSS_SHAPE, swigluLimit: config.number('swiglu_limit', GPT_OSS_LIMIT) }),
    stacks: [gptOssStack(true)],
  },
  {
    // Weights divided by k and the sum multiplied by k: nothing. Gate and up are halves here.
    modelTypes: ['openai_privacy_filter'],
    ...LOCAL_SIZES,
    routing: topkSoftmax,
    shape: () => ({ ...GPT_OSS_SHAPE, swigluLimit: GPT_OSS_LIMIT }),
    stacks: [gptOssStack(false)],
  },
  {
    modelTypes: ['gemma4'],
    hiddenSize: 'hidden_size',
    numExperts: 'num_experts',
    topK: 'top_k_experts',
    activation: 'hidden_activation',
    defaultActivation: 'gelu_pytorch_tanh',
    routing: scored({ norm: true }),
    shape: config => ({ routerInput: 'separate', routerNormEpsilon: config.number('rms_norm_eps') }),
    stacks: [
      {
        ...LAYERS,
        sparse: config => config.boolean('enable_moe_block', false),
        naming: [
          mlpNaming({
            block: '',
            router: {
              weight: ['router.proj.weight'],
              inputScale: tensor('router.scale'),
              perExpertScale: tensor('router.per_expert_scale'),
            },
            experts: [
              { kind: 'fused', gateUp: 'experts.gate_up_proj', down: 'experts.down_proj', major: 'output' },
            ],
          }),
        ],
      },
    ],
  },
  {
    // The classifier's own bias, where stored, is not used by the published code.
    modelTypes: ['longcat_flash'],
    hiddenSize: 'hidden_size',
    numExperts: 'n_routed_experts',
    topK: 'moe_topk',
    only: { zero_expert_type: ['identity'], norm_topk_prob: [false] },
    routing: (config, sizes) => ({
      scoringFunc: 'softmax',
      ...sizes,
      numIdentityExperts: config.integer('zero_expert_num', 0, 0),
      normTopkProb: false,
      routedScalingFactor: config.number('routed_scaling_factor'),
    }),
    stacks: [
      {
        numLayers: 'num_layers',
        sparse: everyLayer,
        naming: [
          mlpNaming({
            router: {
              weight: ['router.classifier.weight'],
              selectionBias: tensor('router.e_score_correction_bias'),
            },
          }),
        ],
      },
    ],
  },
  {
    modelTypes: ['aria'],
    hiddenSize: 'hidden_size',
    numExperts: 'moe_num_experts',
    topK: 'moe_topk',
    routing: topkSoftmax,
    stacks: [
      {
        ...LAYERS,
        sparse: everyLayer,
        naming: [
          mlpNaming({
            router: { weight: ['router.weight'] },
            experts: [
              { kind: 'fused', gateUp: 'experts.fc1.weight', down: 'experts.fc2.weight', major: 'input' },
            ],
            shared: sharedMlp('shared_experts.', 'moe_num_shared_experts'),
          }),
        ],
      },
    ],
  },
]
