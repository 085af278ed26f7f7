/** Hunyuan-A13B and HY-V3. */

import type { FamilyRow } from './parts/family.js'
import { LAYERS, SIZES } from './parts/fields.js'
import { mlpNaming, sharedMlp, tensor } from './parts/layouts.js'
import { DEEPSEEK_EPSILON, NORM_ALWAYS, scored } from './parts/scoring.js'
import { byLayerTypes, everyLayer } from './parts/sparse-layers.js'

export const TENCENT_FAMILIES: readonly FamilyRow[] = [
  {
    modelTypes: ['hunyuan_v1_moe'],
    ...SIZES,
    topK: 'moe_topk',
    routing: NORM_ALWAYS,
    stacks: [
      {
        ...LAYERS,
        sparse: everyLayer,
        naming: [
          mlpNaming({
            router: { weight: ['gate.wg.weight'] },
            shared: sharedMlp('shared_mlp.', 'num_shared_expert'),
          }),
        ],
      },
    ],
  },
  {
    modelTypes: ['hy_v3'],
    ...SIZES,
    routing: scored({
      score: 'sigmoid',
      norm: true,
      epsilon: DEEPSEEK_EPSILON,
      scale: 'router_scaling_factor',
    }),
    stacks: [
      {
        ...LAYERS,
        sparse: byLayerTypes(1),
        naming: [
          mlpNaming({
            router: { weight: ['router.gate.weight'], selectionBias: tensor('expert_bias') },
            shared: sharedMlp('shared_mlp.', 'num_shared_experts'),
          }),
        ],
      },
    ],
  },
]
