/** MiMo: DeepSeek-V3's block without a shared expert. */

import { DEEPSEEK_V3_ONLY } from './parts/deepseek-block.js'
import type { FamilyRow } from './parts/family.js'
import { LAYERS, ROUTED_SIZES } from './parts/fields.js'
import { mlpNaming, tensor } from './parts/layouts.js'
import { noauxTc } from './parts/scoring.js'
import { sparseLayers } from './parts/sparse-layers.js'

export const XIAOMI_FAMILIES: readonly FamilyRow[] = [
  {
    models: 'MiMo-V2',
    routed: 'as DeepSeek-V3',
    modelTypes: ['mimo_v2_flash', 'mimo_v2'],
    ...ROUTED_SIZES,
    only: DEEPSEEK_V3_ONLY,
    routing: noauxTc(),
    stacks: [
      {
        ...LAYERS,
        sparse: sparseLayers({ numDense: 1 }),
        naming: [mlpNaming({ router: { selectionBias: tensor('gate.e_score_correction_bias') } })],
      },
    ],
  },
]
