/** Granite. */

import type { ConfigReader } from './parts/config-reader.js'
import type { FamilyRow } from './parts/family.js'
import { LAYERS, LOCAL_SIZES } from './parts/fields.js'
import { FUSED_LINEARS, mlpNaming, sharedMlp } from './parts/layouts.js'
import { topkSoftmax } from './parts/scoring.js'
import { sparseLayers } from './parts/sparse-layers.js'

/** `sharedWidth` is what the config class takes where config.json does not say. */
function granite(models: string, modelTypes: readonly string[], sharedWidth: number): FamilyRow {
  const numShared = (config: ConfigReader) =>
    config.integer('shared_intermediate_size', 0, sharedWidth) > 0 ? 1 : 0
  return {
    models,
    routed: 'softmax over the selected logits',
    modelTypes,
    ...LOCAL_SIZES,
    routing: topkSoftmax,
    stacks: [
      {
        ...LAYERS,
        sparse: sparseLayers(),
        naming: [
          mlpNaming({
            block: 'block_sparse_moe.',
            router: { weight: ['router.layer.weight', 'gate.weight', 'router.weight'] },
            experts: FUSED_LINEARS,
            // Tools that quantise leave gate and up apart.
            shared: [
              {
                count: numShared,
                gateUp: '/shared_mlp.input_linear',
                down: '/shared_mlp.output_linear',
              },
              sharedMlp('/shared_mlp.', '', { count: numShared }),
            ],
          }),
        ],
      },
    ],
  }
}

export const IBM_FAMILIES: readonly FamilyRow[] = [
  granite('Granite 3 MoE', ['granitemoe', 'granitemoeshared', 'granitemoe_swa', 'granite4_vision'], 0),
  granite('Granite 4', ['granitemoehybrid'], 1024),
]
