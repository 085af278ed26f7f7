/** Trinity. */

import type { FamilyRow } from './parts/family.js'
import { LAYERS, SIZES } from './parts/fields.js'
import { mlpNaming, sharedMlp, tensor } from './parts/layouts.js'
import { DEEPSEEK_EPSILON, scored } from './parts/scoring.js'
import { fromLayer } from './parts/sparse-layers.js'

export const ARCEE_FAMILIES: readonly FamilyRow[] = [
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
            shared: sharedMlp('shared_experts.', 'num_shared_experts'),
          }),
        ],
      },
    ],
  },
]
