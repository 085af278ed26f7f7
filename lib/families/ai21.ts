/** Jamba. */

import type { FamilyRow } from './parts/family.js'
import { LAYERS, SIZES } from './parts/fields.js'
import { mlpNaming } from './parts/layouts.js'
import { scored } from './parts/scoring.js'
import { byPeriod } from './parts/sparse-layers.js'

export const AI21_FAMILIES: readonly FamilyRow[] = [
  {
    modelTypes: ['jamba'],
    ...SIZES,
    routing: scored({ norm: false }),
    stacks: [
      {
        ...LAYERS,
        sparse: byPeriod,
        naming: [mlpNaming({ block: 'feed_forward.', router: { weight: ['router.weight'] } })],
      },
    ],
  },
]
