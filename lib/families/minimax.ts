/** MiniMax-Text-01, M1, M2 and M3. */

import type { FamilyRow } from './parts/family.js'
import { LAYERS, LOCAL_SIZES } from './parts/fields.js'
import { blockSparse, sharedMlp, sharedOfWidth, tensor } from './parts/layouts.js'
import { NORM_ALWAYS, scored } from './parts/scoring.js'
import { sparseLayers } from './parts/sparse-layers.js'

const M3_SHARED = sharedMlp('shared_experts.', 'n_shared_experts', { default: 1 })

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
  {
    models: 'MiniMax-M3',
    routed: 'sigmoid with selection bias',
    modelTypes: ['minimax_m3_vl'],
    // The published snapshot gives its language model the type of the one before.
    alsoAs: [
      {
        modelType: 'minimax_m2',
        when: config => config.has('swiglu_alpha') || config.raw('hidden_act') === 'swigluoai',
      },
    ],
    ...LOCAL_SIZES,
    only: { scoring_func: ['sigmoid'], use_routing_bias: [true], n_group: [1], topk_group: [1] },
    // `swigluoai`: gpt-oss's, gate and up as halves, in the shared expert as well.
    activation: null,
    routing: scored({ score: 'sigmoid', norm: true, scale: 'routed_scaling_factor', scaleDefault: 2 }),
    shape: (config, layer) => {
      const limit = config.number('swiglu_limit', 7)
      const shared = M3_SHARED.count(config, layer) > 0 ? { sharedSwigluLimit: limit } : {}
      return {
        ...{ swigluLimit: limit, swigluAlpha: config.number('swiglu_alpha', 1.702), swigluUpOffset: 1 },
        ...shared,
      }
    },
    stacks: [
      {
        ...LAYERS,
        sparse: sparseLayers(),
        naming: blockSparse({
          router: { weight: ['gate.weight'], selectionBias: tensor('e_score_correction_bias') },
          shared: [
            M3_SHARED,
            {
              ...{ count: M3_SHARED.count, down: M3_SHARED.down },
              gateUp: 'shared_experts.gate_up_proj',
            },
          ],
        }),
      },
    ],
  },
]
