/** Trinity. */

import type { FamilyRow } from './parts/family.js'
import { LAYERS, SIZES } from './parts/fields.js'
import { mlpNaming, sharedMlp, tensor } from './parts/layouts.js'
import { DEEPSEEK_EPSILON, scored } from './parts/scoring.js'
import { sparseLayers } from './parts/sparse-layers.js'

export const ARCEE_FAMILIES: readonly FamilyRow[] = [
  {
    models: 'Trinity',
    routed: 'sigmoid with selection bias',
    modelTypes: ['afmoe'],
    ...SIZES,
    only: {
      score_func: ['sigmoid'],
      route_norm: [true],
      n_group: [1],
      topk_group: [1],
      num_expert_groups: [1],
      num_limited_groups: [1],
    },
    routing: scored({
      score: 'sigmoid',
      norm: true,
      epsilon: DEEPSEEK_EPSILON,
      scale: 'route_scale',
      scaleDefault: 1,
    }),
    stacks: [
      {
        ...LAYERS,
        sparse: sparseLayers({ numDense: 1 }),
        naming: [
          mlpNaming({
            router: { weight: ['router.gate.weight'], selectionBias: tensor('expert_bias') },
            shared: sharedMlp('shared_experts.', 'num_shared_experts', { default: 2 }),
          }),
        ],
      },
    ],
  },
]
