/** LongCat-Flash. */

import type { FamilyRow } from './parts/family.js'
import { ROUTED_SIZES } from './parts/fields.js'
import { mlpNaming, tensor } from './parts/layouts.js'
import { sparseLayers } from './parts/sparse-layers.js'

export const MEITUAN_FAMILIES: readonly FamilyRow[] = [
  {
    // The classifier's own bias, where stored, is not used by the published code.
    models: 'LongCat-Flash',
    routed: 'softmax with selection bias, identity experts',
    modelTypes: ['longcat_flash', 'longcat_flash_ngram'],
    ...ROUTED_SIZES,
    topK: 'moe_topk',
    only: { zero_expert_type: ['identity'], norm_topk_prob: [false] },
    routing: (config, sizes) => ({
      scoringFunc: 'softmax',
      ...sizes,
      numIdentityExperts: config.integer('zero_expert_num', 0, 256),
      normTopkProb: false,
      routedScalingFactor: config.number('routed_scaling_factor', 6),
    }),
    stacks: [
      {
        numLayers: 'num_layers',
        sparse: sparseLayers(),
        naming: [
          mlpNaming({
            router: {
              weight: ['router.classifier.weight'],
              selectionBias: tensor('router.e_score_correction_bias'),
            },
          }),
        ],
      },
    ],
  },
]
