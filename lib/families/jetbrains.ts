/** Mellum 2. */

import type { FamilyRow } from './parts/family.js'
import { LAYERS, SIZES } from './parts/fields.js'
import { mlpNaming } from './parts/layouts.js'
import { NORM_FLAG_ON } from './parts/scoring.js'
import { sparseLayers } from './parts/sparse-layers.js'

export const JETBRAINS_FAMILIES: readonly FamilyRow[] = [
  {
    models: 'Mellum 2',
    routed: 'softmax, renormalised',
    modelTypes: ['mellum'],
    ...SIZES,
    routing: NORM_FLAG_ON,
    stacks: [{ ...LAYERS, sparse: sparseLayers(), naming: [mlpNaming()] }],
  },
]
