/** Command A+: the routed and the shared part are averaged. */

import type { ConfigReader } from './parts/config-reader.js'
import type { FamilyRow, RoutingSizes } from './parts/family.js'
import { LAYERS, SIZES } from './parts/fields.js'
import { mlpNaming, sharedMlp } from './parts/layouts.js'
import { scored, topkSoftmax } from './parts/scoring.js'
import { sparseLayers } from './parts/sparse-layers.js'

const STRATEGY = 'shared_expert_combination_strategy'
const byScore = scored({ score: 'sigmoid', norm: 'norm_topk_prob', normDefault: true })

/** Softmax over the selected logits, which are then no more renormalised; or the sigmoid of each. */
function routing(config: ConfigReader, sizes: RoutingSizes, layer: number) {
  const isSigmoid = config.string('expert_selection_fn', 'softmax') === 'sigmoid'
  return (isSigmoid ? byScore : topkSoftmax)(config, sizes, layer)
}

export const COHERE_FAMILIES: readonly FamilyRow[] = [
  {
    models: 'Command A+',
    routed: 'sigmoid, or softmax over the selected logits; averaged with the shared expert',
    modelTypes: ['cohere2_moe'],
    ...SIZES,
    only: { expert_selection_fn: ['softmax', 'sigmoid'], [STRATEGY]: ['average', 'sum'] },
    routing,
    stacks: [
      {
        ...LAYERS,
        sparse: sparseLayers(),
        naming: [
          mlpNaming({
            shared: sharedMlp('shared_experts.', 'num_shared_experts', {
              averaged: config => config.string(STRATEGY, 'average') === 'average',
            }),
          }),
        ],
      },
    ],
  },
]
