/** Softmax routing with ordinary expert tensors: Mixtral, Qwen, OLMoE, ERNIE, Hunyuan, Jamba, Phi-3.5-MoE, Ling v1. */

import type { FamilyRow, RoutingSizes } from './family.js'
import { flag, GATE_UP_DOWN, mlpNaming, sharedMlp, sharedOfWidth, tensor, W1_W2_W3 } from './naming.js'
import { scored } from './routing-rules.js'
import { byDecoderSparseStep, byInterval, byPeriod, everyLayer, fromLayer } from './sparse-layers.js'

const SIZES = { hiddenSize: 'hidden_size', numExperts: 'num_experts', topK: 'num_experts_per_tok' }
const LAYERS = { numLayers: 'num_hidden_layers' }
const BLOCK_SPARSE = { block: 'block_sparse_moe.', experts: W1_W2_W3 }
const NORM_FLAG_OFF = scored({ norm: 'norm_topk_prob', normDefault: false })
const NORM_ALWAYS = scored({ norm: true })

const QWEN_SHARED = sharedMlp('shared_expert.', '', {
  count: () => 1,
  weight: { names: ['shared_expert_gate.weight'], mode: 'sigmoid' },
})

export const SOFTMAX_FAMILIES: readonly FamilyRow[] = [
  {
    modelTypes: ['mixtral'],
    ...SIZES,
    numExperts: 'num_local_experts',
    routing: NORM_ALWAYS,
    stacks: [{ ...LAYERS, sparse: everyLayer, naming: [mlpNaming(BLOCK_SPARSE)] }],
  },
  {
    modelTypes: ['minimax', 'minimax_text_01', 'minimax_m1'],
    ...SIZES,
    numExperts: 'num_local_experts',
    routing: NORM_ALWAYS,
    stacks: [
      {
        ...LAYERS,
        sparse: everyLayer,
        naming: [
          mlpNaming({
            ...BLOCK_SPARSE,
            shared: sharedOfWidth('/shared_mlp.', 'shared_intermediate_size', {
              count: config => {
                if (config.integer('shared_intermediate_size', 0, 0) === 0) return 0
                const mode = config.string('shared_moe_mode', 'sigmoid')
                if (mode !== 'sigmoid') {
                  config.fail('shared_moe_mode', `'${mode}' is not supported; supported: sigmoid`)
                }
                return 1
              },
              weight: { names: ['/coefficient.weight'], mode: 'mix' },
            }),
          }),
        ],
      },
    ],
  },
  {
    modelTypes: ['qwen2_moe', 'qwen3_next'],
    ...SIZES,
    routing: NORM_FLAG_OFF,
    stacks: [{ ...LAYERS, sparse: byDecoderSparseStep, naming: [mlpNaming({ shared: QWEN_SHARED })] }],
  },
  {
    modelTypes: ['qwen3_moe', 'qwen3_omni_moe', 'qwen3_omni_moe_thinker'],
    ...SIZES,
    routing: NORM_FLAG_OFF,
    stacks: [{ ...LAYERS, sparse: byDecoderSparseStep, naming: [mlpNaming()] }],
  },
  {
    modelTypes: ['qwen3_vl_moe'],
    ...SIZES,
    routing: NORM_ALWAYS,
    stacks: [
      {
        ...LAYERS,
        sparse: byDecoderSparseStep,
        naming: [
          mlpNaming({
            experts: [
              { kind: 'fused', gateUp: 'experts.gate_up_proj', down: 'experts.down_proj', major: 'input' },
              GATE_UP_DOWN[0]!,
            ],
          }),
        ],
      },
    ],
  },
  {
    modelTypes: ['qwen3_5_moe'],
    ...SIZES,
    routing: NORM_ALWAYS,
    stacks: [{ ...LAYERS, sparse: everyLayer, naming: [mlpNaming({ shared: QWEN_SHARED })] }],
  },
  {
    modelTypes: ['olmoe', 'flex_olmo'],
    ...SIZES,
    routing: NORM_FLAG_OFF,
    stacks: [{ ...LAYERS, sparse: everyLayer, naming: [mlpNaming()] }],
  },
  {
    modelTypes: ['bailing_moe'],
    ...SIZES,
    routing: scored({ norm: 'norm_topk_prob' }),
    stacks: [
      {
        ...LAYERS,
        sparse: fromLayer('first_k_dense_replace'),
        naming: [mlpNaming({ shared: sharedMlp('shared_experts.', 'num_shared_experts') })],
      },
    ],
  },
  {
    modelTypes: ['ernie4_5_moe'],
    hiddenSize: 'hidden_size',
    numExperts: 'moe_num_experts',
    topK: 'moe_k',
    routing: (config, sizes) => ({
      scoringFunc: 'softmax',
      ...sizes,
      normTopkProb: true,
      normFloor: config.number('moe_norm_min', 1e-12),
    }),
    stacks: [
      {
        ...LAYERS,
        sparse: byInterval,
        naming: [
          mlpNaming({
            router: { selectionBias: tensor('moe_statics.e_score_correction_bias') },
            experts: [
              { ...GATE_UP_DOWN[0]!, bias: flag('use_bias', false) } as (typeof GATE_UP_DOWN)[number],
            ],
            shared: sharedMlp('shared_experts.', 'moe_num_shared_experts', { bias: flag('use_bias', false) }),
          }),
        ],
      },
    ],
  },
  {
    modelTypes: ['hunyuan_v1_moe'],
    ...SIZES,
    topK: 'moe_topk',
    routing: NORM_ALWAYS,
    stacks: [
      {
        ...LAYERS,
        sparse: everyLayer,
        naming: [
          mlpNaming({
            router: { weight: ['gate.wg.weight'] },
            shared: sharedMlp('shared_mlp.', 'num_shared_expert'),
          }),
        ],
      },
    ],
  },
  {
    modelTypes: ['jamba'],
    ...SIZES,
    routing: scored({ norm: false }),
    stacks: [
      {
        ...LAYERS,
        sparse: byPeriod,
        naming: [mlpNaming({ block: 'feed_forward.', router: { weight: ['router.weight'] } })],
      },
    ],
  },
  {
    // The jitter is also the threshold at inference; two experts whatever the config says.
    modelTypes: ['phimoe'],
    ...SIZES,
    numExperts: 'num_local_experts',
    topK: 2,
    only: { num_experts_per_tok: [2] },
    routing: (config, { numExperts }: RoutingSizes) => ({
      scoringFunc: 'sparsemixer',
      numExperts,
      topK: 2,
      sparsemixerEpsilon: config.number('router_jitter_noise'),
    }),
    stacks: [{ ...LAYERS, sparse: everyLayer, naming: [mlpNaming(BLOCK_SPARSE)] }],
  },
]
