/** ERNIE 4.5. */

import type { FamilyRow } from './parts/family.js'
import { LAYERS } from './parts/fields.js'
import { flag, GATE_UP_DOWN, mlpNaming, sharedMlp, tensor } from './parts/layouts.js'
import { sparseLayers } from './parts/sparse-layers.js'

export const BAIDU_FAMILIES: readonly FamilyRow[] = [
  {
    models: 'ERNIE 4.5',
    routed: 'softmax with selection bias',
    modelTypes: ['ernie4_5_moe'],
    hiddenSize: 'hidden_size',
    numExperts: 'moe_num_experts',
    topK: 'moe_k',
    only: { moe_gate_act: ['softmax'], moe_use_aux_free: [true], moe_norm_gate_logits: [true] },
    routing: (config, sizes) => ({
      scoringFunc: 'softmax',
      ...sizes,
      normTopkProb: true,
      normFloor: config.number('moe_norm_min', 1e-12),
    }),
    stacks: [
      {
        ...LAYERS,
        sparse: sparseLayers({ numDense: 1 }),
        naming: [
          mlpNaming({
            router: {
              selectionBias: tensor(
                'moe_statics.e_score_correction_bias',
                'gate.moe_statics.e_score_correction_bias',
              ),
            },
            experts: [
              { ...GATE_UP_DOWN[0]!, bias: flag('use_bias', false) } as (typeof GATE_UP_DOWN)[number],
            ],
            shared: sharedMlp('shared_experts.', 'moe_num_shared_experts', {
              default: 2,
              bias: flag('use_bias', false),
            }),
          }),
        ],
      },
    ],
  },
]
