/** OLMoE and FlexOlmo. */

import type { FamilyRow } from './parts/family.js'
import { LAYERS, SIZES } from './parts/fields.js'
import { mlpNaming } from './parts/layouts.js'
import { NORM_FLAG_OFF } from './parts/scoring.js'
import { sparseLayers } from './parts/sparse-layers.js'

export const ALLENAI_FAMILIES: readonly FamilyRow[] = [
  {
    models: 'OLMoE, FlexOlmo',
    routed: 'softmax',
    modelTypes: ['olmoe', 'flex_olmo'],
    ...SIZES,
    routing: NORM_FLAG_OFF,
    stacks: [{ ...LAYERS, sparse: sparseLayers(), naming: [mlpNaming()] }],
  },
]
