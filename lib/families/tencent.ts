/** Hunyuan-A13B and HY-V3. */

import type { FamilyRow } from './parts/family.js'
import { LAYERS, SIZES } from './parts/fields.js'
import { mlpNaming, sharedMlp, tensor } from './parts/layouts.js'
import { DEEPSEEK_EPSILON, NORM_ALWAYS, scored } from './parts/scoring.js'
import { sparseLayers } from './parts/sparse-layers.js'

export const TENCENT_FAMILIES: readonly FamilyRow[] = [
  {
    models: 'Hunyuan-A13B',
    routed: 'softmax, renormalised',
    modelTypes: ['hunyuan_v1_moe'],
    ...SIZES,
    topK: 'moe_topk',
    only: { norm_topk_prob: [true], routed_scaling_factor: [1], group_limited_greedy: [false] },
    routing: NORM_ALWAYS,
    stacks: [
      {
        ...LAYERS,
        // With one expert a layer is a plain MLP.
        sparse: (config, layer) =>
          config.integerOfLayer('num_experts', layer, 0, 1) > 1 && sparseLayers()(config, layer),
        naming: [
          mlpNaming({
            router: { weight: ['gate.wg.weight'] },
            shared: sharedMlp('shared_mlp.', 'num_shared_expert', {
              count: (config, layer) =>
                config.boolean('use_mixed_mlp_moe', true)
                  ? config.integerOfLayer('num_shared_expert', layer, 0, 1)
                  : 0,
            }),
          }),
        ],
      },
    ],
  },
  {
    models: 'HY-V3',
    routed: 'sigmoid with selection bias',
    modelTypes: ['hy_v3'],
    ...SIZES,
    only: { route_norm: [true], moe_router_use_sigmoid: [true], moe_router_enable_expert_bias: [true] },
    routing: scored({
      score: 'sigmoid',
      norm: true,
      epsilon: DEEPSEEK_EPSILON,
      scale: 'router_scaling_factor',
      scaleDefault: 2.826,
    }),
    stacks: [
      {
        ...LAYERS,
        sparse: sparseLayers({ numDense: 1 }),
        naming: [
          mlpNaming({
            router: { weight: ['router.gate.weight'], selectionBias: tensor('expert_bias') },
            shared: sharedMlp('shared_mlp.', 'num_shared_experts', { default: 1 }),
          }),
          // As transformers has it in memory.
          mlpNaming({
            router: { selectionBias: tensor('e_score_correction_bias', 'gate.e_score_correction_bias') },
            shared: sharedMlp('shared_experts.', 'num_shared_experts', { default: 1 }),
          }),
        ],
      },
    ],
  },
]
