/** Jamba. */

import type { FamilyRow } from './parts/family.js'
import { LAYERS, SIZES } from './parts/fields.js'
import { mlpNaming } from './parts/layouts.js'
import { scored } from './parts/scoring.js'
import { sparseLayers } from './parts/sparse-layers.js'

export const AI21_FAMILIES: readonly FamilyRow[] = [
  {
    models: 'Jamba',
    routed: 'softmax',
    modelTypes: ['jamba'],
    ...SIZES,
    routing: scored({ norm: false }),
    stacks: [
      {
        ...LAYERS,
        // With one expert every layer is a plain MLP.
        sparse: (config, layer) =>
          config.integer('num_experts', 0, 16) > 1 && sparseLayers({ period: 2, offset: 1 })(config, layer),
        naming: [mlpNaming({ block: 'feed_forward.', router: { weight: ['router.weight'] } })],
      },
    ],
  },
]
