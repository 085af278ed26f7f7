/** Ling, Ring and LLaDA2. */

import type { FamilyRow } from './parts/family.js'
import { LAYERS, SIZES } from './parts/fields.js'
import { flag, GATE_UP_DOWN, mlpNaming, sharedMlp, tensorWhen } from './parts/layouts.js'
import { DEEPSEEK_EPSILON, scored } from './parts/scoring.js'
import { fromLayer } from './parts/sparse-layers.js'

const SHARED = sharedMlp('shared_experts.', 'num_shared_experts')

export const INCLUSIONAI_FAMILIES: readonly FamilyRow[] = [
  {
    modelTypes: ['bailing_moe'],
    ...SIZES,
    routing: scored({ norm: 'norm_topk_prob' }),
    stacks: [
      {
        ...LAYERS,
        sparse: fromLayer('first_k_dense_replace'),
        naming: [mlpNaming({ shared: SHARED })],
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
]
