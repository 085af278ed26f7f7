/** Aria. */

import type { FamilyRow } from './parts/family.js'
import { LAYERS } from './parts/fields.js'
import { mlpNaming, sharedMlp } from './parts/layouts.js'
import { topkSoftmax } from './parts/scoring.js'
import { sparseLayers } from './parts/sparse-layers.js'

export const RHYMES_FAMILIES: readonly FamilyRow[] = [
  {
    models: 'Aria',
    routed: 'softmax over the selected logits',
    modelTypes: ['aria'],
    hiddenSize: 'hidden_size',
    numExperts: 'moe_num_experts',
    topK: 'moe_topk',
    routing: topkSoftmax,
    stacks: [
      {
        ...LAYERS,
        sparse: sparseLayers(),
        naming: [
          mlpNaming({
            router: { weight: ['router.weight'] },
            experts: [
              { kind: 'fused', gateUp: 'experts.fc1.weight', down: 'experts.fc2.weight', major: 'input' },
            ],
            shared: sharedMlp('shared_experts.', 'moe_num_shared_experts', { default: 2 }),
          }),
        ],
      },
    ],
  },
]
