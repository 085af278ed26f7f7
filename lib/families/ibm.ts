/** Granite. */

import type { FamilyRow } from './parts/family.js'
import { LAYERS, LOCAL_SIZES } from './parts/fields.js'
import { FUSED_LINEARS, mlpNaming } from './parts/layouts.js'
import { topkSoftmax } from './parts/scoring.js'
import { everyLayer } from './parts/sparse-layers.js'

export const IBM_FAMILIES: readonly FamilyRow[] = [
  {
    modelTypes: ['granitemoe', 'granitemoeshared', 'granitemoehybrid'],
    ...LOCAL_SIZES,
    routing: topkSoftmax,
    stacks: [
      {
        ...LAYERS,
        sparse: everyLayer,
        naming: [
          mlpNaming({
            block: 'block_sparse_moe.',
            router: { weight: ['router.layer.weight'] },
            experts: FUSED_LINEARS,
            shared: {
              count: config => (config.integer('shared_intermediate_size', 0, 0) > 0 ? 1 : 0),
              gateUp: '/shared_mlp.input_linear',
              down: '/shared_mlp.output_linear',
            },
          }),
        ],
      },
    ],
  },
]
