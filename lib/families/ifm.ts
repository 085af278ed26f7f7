/** K2 Horizon. */

import type { ConfigReader } from './parts/config-reader.js'
import type { FamilyRow, RoutingSizes } from './parts/family.js'
import { LAYERS, SIZES } from './parts/fields.js'
import { flag, mlpNaming, sharedMlp, tensorWhen } from './parts/layouts.js'
import { scored } from './parts/scoring.js'
import { sparseLayers } from './parts/sparse-layers.js'

const SCORE = 'router_score_func'

/** Renormalised without an epsilon, then scaled; the defaults are softmax, false and 1. */
function routing(config: ConfigReader, sizes: RoutingSizes, layer: number) {
  const score = config.string(SCORE, 'softmax') as 'softmax' | 'sigmoid'
  const scale = config.isNull('router_scaling_factor')
    ? {}
    : { scale: 'router_scaling_factor', scaleDefault: 1 }
  return scored({ score, norm: 'norm_topk_prob', normDefault: false, ...scale })(config, sizes, layer)
}

export const IFM_FAMILIES: readonly FamilyRow[] = [
  {
    models: 'K2 Horizon',
    routed: 'sigmoid with selection bias, renormalised',
    modelTypes: ['k2_horizon', 'xllm'],
    ...SIZES,
    only: { [SCORE]: ['softmax', 'sigmoid'] },
    routing,
    stacks: [
      {
        ...LAYERS,
        sparse: sparseLayers(),
        naming: [
          mlpNaming({
            // A linear layer's bias by its name: the published code adds it to the scores, and for the selection alone.
            router: { selectionBias: tensorWhen(flag('moe_gate_bias', false), 'gate.bias') },
            shared: sharedMlp('shared_experts.', 'num_shared_experts'),
          }),
        ],
      },
    ],
  },
]
