/** Kimi K2, which is DeepSeek-V3's block, and Kimi Linear. */

import { DEEPSEEK_V3_DEFAULTS, DEEPSEEK_V3_ONLY } from './parts/deepseek-block.js'
import type { FamilyRow } from './parts/family.js'
import { LAYERS, ROUTED_SIZES, SIZES } from './parts/fields.js'
import { mlpNaming, sharedMlp, tensor, W1_W2_W3 } from './parts/layouts.js'
import { DEEPSEEK_EPSILON, scored } from './parts/scoring.js'
import { sparseLayers } from './parts/sparse-layers.js'

export const MOONSHOT_FAMILIES: readonly FamilyRow[] = [
  {
    models: 'Kimi-K2, K2.5',
    routed: 'as DeepSeek-V3',
    modelTypes: ['kimi_k2'],
    ...ROUTED_SIZES,
    only: DEEPSEEK_V3_ONLY,
    ...DEEPSEEK_V3_DEFAULTS,
  },
  {
    models: 'Kimi Linear',
    routed: 'as DeepSeek-V3',
    modelTypes: ['kimi_linear'],
    ...SIZES,
    topK: 'num_experts_per_token',
    // Kimi-K3 writes the same model type and has experts in a latent space.
    only: {
      moe_router_activation_func: ['sigmoid'],
      use_grouped_topk: [true],
      routed_expert_hidden_size: [],
    },
    routing: scored({
      score: 'sigmoid',
      norm: 'moe_renormalize',
      normDefault: true,
      epsilon: DEEPSEEK_EPSILON,
      onlyAboveOne: true,
      scale: 'routed_scaling_factor',
      scaleDefault: 1,
      groups: { count: 'num_expert_group', kept: 'topk_group', score: 'top2_sum' },
    }),
    stacks: [
      {
        ...LAYERS,
        sparse: sparseLayers(),
        naming: [
          mlpNaming({
            block: 'block_sparse_moe.',
            router: { selectionBias: tensor('gate.e_score_correction_bias') },
            experts: W1_W2_W3,
            shared: sharedMlp('shared_experts.', 'num_shared_experts'),
          }),
        ],
      },
    ],
  },
]
