/** Ling and Ring, LLaDA2, and Sarvam and Param2, which have Ling's block. */

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

/** What the config classes of Ling 2.0's relatives take where config.json does not say. */
interface LingDefaults {
  scale: number
  groups: readonly [number, number]
  numShared: number
  numDense: number
}

/** Ling 2.0's block. */
function ling(defaults: LingDefaults): Pick<FamilyRow, 'only' | 'routing' | 'routed' | 'stacks'> {
  return {
    routed: 'sigmoid with selection bias and groups',
    only: { score_function: ['sigmoid'], norm_topk_prob: [true], multi_gate: [false] },
    routing: scored({
      score: 'sigmoid',
      norm: true,
      epsilon: DEEPSEEK_EPSILON,
      onlyAboveOne: true,
      scale: 'routed_scaling_factor',
      scaleDefault: defaults.scale,
      groups: { count: 'n_group', kept: 'topk_group', score: 'top2_sum', defaults: defaults.groups },
    }),
    stacks: [
      {
        ...LAYERS,
        sparse: sparseLayers({ numDense: defaults.numDense }),
        naming: [
          mlpNaming({
            router: {
              selectionBias: tensorWhen(
                flag('moe_router_enable_expert_bias', true),
                'gate.expert_bias',
                'gate.e_score_correction_bias',
              ),
            },
            shared: sharedMlp('shared_experts.', 'num_shared_experts', { default: defaults.numShared }),
          }),
        ],
      },
    ],
  }
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
    models: 'Ling 2.x, 3.0, Ring 2.x',
    modelTypes: [
      ...['bailing_moe_v2', 'bailing_hybrid', 'bailing_moe_linear'],
      ...['bailing2_5_moe', 'bailing_moe_v3_vl'],
    ],
    alsoAs: [{ modelType: 'bailing_moe', when: isV2 }],
    ...SIZES,
    ...ling({ scale: 1, groups: [8, 4], numShared: 1, numDense: 1 }),
  },
  {
    models: 'LLaDA2',
    modelTypes: ['llada2_moe'],
    ...SIZES,
    ...ling({ scale: 2.5, groups: [8, 4], numShared: 0, numDense: 0 }),
  },
  {
    models: 'Param2',
    modelTypes: ['param2moe'],
    ...SIZES,
    ...ling({ scale: 2.5, groups: [1, 1], numShared: 2, numDense: 1 }),
  },
  {
    models: 'Sarvam',
    modelTypes: ['sarvam_moe'],
    ...SIZES,
    ...ling({ scale: 2.5, groups: [1, 1], numShared: 1, numDense: 1 }),
  },
]
