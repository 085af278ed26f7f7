/** Klear: routed and shared part share the output by a softmax over two logits. */

import type { FamilyRow } from './parts/family.js'
import { LAYERS, SIZES } from './parts/fields.js'
import { mlpNaming, sharedMlp, tensor } from './parts/layouts.js'
import { scored } from './parts/scoring.js'
import { sparseLayers } from './parts/sparse-layers.js'

export const KWAI_FAMILIES: readonly FamilyRow[] = [
  {
    models: 'Klear',
    routed: 'sigmoid with selection bias; mixed with the shared expert by a softmax',
    modelTypes: ['Klear', 'klear'],
    ...SIZES,
    // Its config has a factor, and no published code of it reads one.
    ignored: ['routed_scaling_factor'],
    routing: scored({ score: 'sigmoid', norm: 'norm_topk_prob', normDefault: true }),
    stacks: [
      {
        ...LAYERS,
        sparse: sparseLayers(),
        naming: [
          mlpNaming({
            router: { selectionBias: tensor('expert_bias') },
            shared: sharedMlp('shared_experts.', 'n_shared_experts', {
              weight: { names: ['coefficient.weight'], mode: 'softmax' },
            }),
          }),
        ],
      },
    ],
  },
]
