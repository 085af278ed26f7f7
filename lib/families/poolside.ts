/** Laguna. */

import type { FamilyRow } from './parts/family.js'
import { LAYERS, SIZES } from './parts/fields.js'
import { mlpNaming, sharedOfWidth, tensor } from './parts/layouts.js'
import { scored } from './parts/scoring.js'
import { sparseLayers } from './parts/sparse-layers.js'

export const POOLSIDE_FAMILIES: readonly FamilyRow[] = [
  {
    // The factor multiplies the routed sum, which is the same as multiplying each weight.
    models: 'Laguna',
    routed: 'sigmoid with selection bias',
    modelTypes: ['laguna'],
    ...SIZES,
    // transformers renormalises whatever `norm_topk_prob` says, vLLM does not.
    only: {
      moe_apply_router_weight_on_input: [false],
      norm_topk_prob: [true],
      moe_router_use_sigmoid: [true],
    },
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
        sparse: sparseLayers({ numDense: 1 }),
        naming: [
          mlpNaming({
            router: {
              selectionBias: tensor('experts.e_score_correction_bias', 'gate.e_score_correction_bias'),
            },
            shared: ['shared_expert.', 'shared_experts.'].map(stem =>
              sharedOfWidth(stem, 'shared_expert_intermediate_size', { default: 512 }),
            ),
          }),
        ],
      },
    ],
  },
]
