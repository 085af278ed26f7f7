/** Ling, Ring and LLaDA2. */

import type { ConfigReader } from './parts/config-reader.js'
import type { FamilyRow } from './parts/family.js'
import { LAYERS, SIZES } from './parts/fields.js'
import { flag, mlpNaming, sharedMlp, tensorWhen } from './parts/layouts.js'
import { DEEPSEEK_EPSILON, scored } from './parts/scoring.js'
import { sparseLayers } from './parts/sparse-layers.js'

/**
 * Ling 2.0 is also published as `bailing_moe`, whose older models score by softmax without bias, groups and factor: the architecture or
 * the score function tells them apart.
 */
function isV2(config: ConfigReader, architectures: readonly string[]): boolean {
  return (
    architectures.some(name => /^BailingMoe\w*V[23]/.test(name)) || config.raw('score_function') === 'sigmoid'
  )
}

export const INCLUSIONAI_FAMILIES: readonly FamilyRow[] = [
  {
    models: 'Ling, Ring (1.x)',
    routed: 'softmax',
    modelTypes: ['bailing_moe'],
    ...SIZES,
    only: {
      score_function: ['softmax'],
      moe_router_enable_expert_bias: [false],
      n_group: [1],
      routed_scaling_factor: [1],
      multi_gate: [false],
    },
    routing: scored({
      norm: 'norm_topk_prob',
      normDefault: true,
      epsilon: DEEPSEEK_EPSILON,
      onlyAboveOne: true,
    }),
    stacks: [
      {
        ...LAYERS,
        sparse: sparseLayers(),
        naming: [mlpNaming({ shared: sharedMlp('shared_experts.', 'num_shared_experts') })],
      },
    ],
  },
  {
    models: 'Ling 2.0, Ring 2.0, LLaDA2',
    routed: 'sigmoid with selection bias and groups',
    modelTypes: ['bailing_moe_v2', 'llada2_moe'],
    alsoAs: [{ modelType: 'bailing_moe', when: isV2 }],
    ...SIZES,
    only: { score_function: ['sigmoid'], norm_topk_prob: [true], multi_gate: [false] },
    routing: scored({
      score: 'sigmoid',
      norm: true,
      epsilon: DEEPSEEK_EPSILON,
      onlyAboveOne: true,
      scale: 'routed_scaling_factor',
      scaleDefault: 1,
      groups: { count: 'n_group', kept: 'topk_group', score: 'top2_sum', defaults: [8, 4] },
    }),
    stacks: [
      {
        ...LAYERS,
        sparse: sparseLayers({ numDense: 1 }),
        naming: [
          mlpNaming({
            router: {
              selectionBias: tensorWhen(flag('moe_router_enable_expert_bias', true), 'gate.expert_bias'),
            },
            shared: sharedMlp('shared_experts.', 'num_shared_experts', { default: 1 }),
          }),
        ],
      },
    ],
  },
]
