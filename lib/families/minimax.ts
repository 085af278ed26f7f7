/** MiniMax-Text-01, M1 and M2. */

import type { FamilyRow } from './parts/family.js'
import { LAYERS, LOCAL_SIZES } from './parts/fields.js'
import { blockSparse, sharedOfWidth, tensor } from './parts/layouts.js'
import { NORM_ALWAYS, scored } from './parts/scoring.js'
import { sparseLayers } from './parts/sparse-layers.js'

export const MINIMAX_FAMILIES: readonly FamilyRow[] = [
  {
    models: 'MiniMax-Text-01, M1',
    routed: 'softmax, renormalised',
    modelTypes: ['minimax', 'minimax_text_01', 'minimax_m1'],
    ...LOCAL_SIZES,
    routing: NORM_ALWAYS,
    stacks: [
      {
        ...LAYERS,
        sparse: sparseLayers(),
        naming: blockSparse({
          shared: sharedOfWidth('/shared_mlp.', 'shared_intermediate_size', {
            count: config => {
              if (config.integer('shared_intermediate_size', 0, 0) === 0) return 0
              const mode = config.string('shared_moe_mode', 'sigmoid')
              if (mode !== 'sigmoid') {
                config.fail('shared_moe_mode', `'${mode}' is not supported; supported: sigmoid`)
              }
              return 1
            },
            weight: { names: ['/coefficient.weight'], mode: 'mix' },
          }),
        }),
      },
    ],
  },
  {
    models: 'MiniMax-M2',
    routed: 'sigmoid with selection bias',
    modelTypes: ['minimax_m2'],
    ...LOCAL_SIZES,
    only: {
      scoring_func: ['sigmoid'],
      use_routing_bias: [true],
      shared_intermediate_size: [0],
      n_group: [1],
      topk_group: [1],
      routed_scaling_factor: [1],
      swiglu_limit: [0],
    },
    routing: scored({ score: 'sigmoid', norm: true }),
    stacks: [
      {
        ...LAYERS,
        sparse: sparseLayers(),
        naming: blockSparse({
          router: { weight: ['gate.weight'], selectionBias: tensor('e_score_correction_bias') },
        }),
      },
    ],
  },
]
