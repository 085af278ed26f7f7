/** K-EXAONE. */

import type { FamilyRow } from './parts/family.js'
import { LAYERS, SIZES } from './parts/fields.js'
import { mlpNaming, sharedMlp, tensor } from './parts/layouts.js'
import { noauxTc } from './parts/scoring.js'
import { byLayerTypes } from './parts/sparse-layers.js'

export const LG_FAMILIES: readonly FamilyRow[] = [
  {
    modelTypes: ['exaone_moe'],
    ...SIZES,
    routing: noauxTc(),
    stacks: [
      {
        ...LAYERS,
        sparse: byLayerTypes(1),
        naming: [
          mlpNaming({
            router: { selectionBias: tensor('e_score_correction_bias', 'gate.e_score_correction_bias') },
            shared: sharedMlp('shared_experts.', 'num_shared_experts'),
          }),
        ],
      },
    ],
  },
]
