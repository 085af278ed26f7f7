/** K-EXAONE. */

import { DEEPSEEK_V3_ONLY } from './parts/deepseek-block.js'
import type { FamilyRow } from './parts/family.js'
import { LAYERS, SIZES } from './parts/fields.js'
import { mlpNaming, sharedMlp, tensor } from './parts/layouts.js'
import { noauxTc } from './parts/scoring.js'
import { sparseLayers } from './parts/sparse-layers.js'

export const LG_FAMILIES: readonly FamilyRow[] = [
  {
    models: 'K-EXAONE',
    routed: 'sigmoid with selection bias',
    modelTypes: ['exaone_moe'],
    ...SIZES,
    only: DEEPSEEK_V3_ONLY,
    routing: noauxTc({ scale: 2.5 }),
    stacks: [
      {
        ...LAYERS,
        sparse: sparseLayers({ numDense: 1 }),
        naming: [
          mlpNaming({
            router: { selectionBias: tensor('e_score_correction_bias', 'gate.e_score_correction_bias') },
            shared: sharedMlp('shared_experts.', 'num_shared_experts', { default: 1 }),
          }),
        ],
      },
    ],
  },
]
