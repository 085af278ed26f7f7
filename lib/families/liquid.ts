/** LFM2-MoE. */

import type { FamilyRow } from './parts/family.js'
import { LAYERS, SIZES } from './parts/fields.js'
import { flag, mlpNaming, tensorWhen, W1_W2_W3 } from './parts/layouts.js'
import { scored } from './parts/scoring.js'
import { sparseLayers } from './parts/sparse-layers.js'

export const LIQUID_FAMILIES: readonly FamilyRow[] = [
  {
    models: 'LFM2-MoE',
    routed: 'sigmoid, optional selection bias',
    modelTypes: ['lfm2_moe'],
    ...SIZES,
    routing: scored({
      score: 'sigmoid',
      norm: 'norm_topk_prob',
      normDefault: true,
      epsilon: 1e-6,
      scale: 'routed_scaling_factor',
      scaleDefault: 1,
    }),
    stacks: [
      {
        ...LAYERS,
        sparse: sparseLayers({ numDense: 2 }),
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
