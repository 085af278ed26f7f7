/** JetMoE. */

import type { FamilyRow } from './parts/family.js'
import { LAYERS, LOCAL_SIZES } from './parts/fields.js'
import { FUSED_LINEARS, mlpNaming, tensor } from './parts/layouts.js'
import { topkSoftmax } from './parts/scoring.js'
import { sparseLayers } from './parts/sparse-layers.js'

export const JETMOE_FAMILIES: readonly FamilyRow[] = [
  {
    models: 'JetMoE',
    routed: 'softmax over the selected logits',
    modelTypes: ['jetmoe'],
    ...LOCAL_SIZES,
    activation: 'activation_function',
    routing: topkSoftmax,
    stacks: [
      {
        ...LAYERS,
        sparse: sparseLayers(),
        naming: [
          mlpNaming({
            router: { weight: ['router.layer.weight'] },
            experts: FUSED_LINEARS,
            outputBias: tensor('bias'),
          }),
        ],
      },
    ],
  },
]
