/** LFM2-MoE. */

import type { FamilyRow } from './parts/family.js'
import { LAYERS, SIZES } from './parts/fields.js'
import { flag, mlpNaming, tensorWhen, W1_W2_W3 } from './parts/layouts.js'
import { scored } from './parts/scoring.js'
import { fromLayer } from './parts/sparse-layers.js'

export const LIQUID_FAMILIES: readonly FamilyRow[] = [
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
]
