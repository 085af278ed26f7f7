/** Mixtral, and Mistral 4. */

import { DEEPSEEK_SHARED } from './parts/deepseek-block.js'
import type { FamilyRow } from './parts/family.js'
import { LAYERS, LOCAL_SIZES, ROUTED_SIZES } from './parts/fields.js'
import { blockSparse, mlpNaming } from './parts/layouts.js'
import { DEEPSEEK_EPSILON, NORM_ALWAYS, scored } from './parts/scoring.js'
import { sparseLayers } from './parts/sparse-layers.js'

export const MISTRAL_FAMILIES: readonly FamilyRow[] = [
  {
    models: 'Mixtral',
    routed: 'softmax, renormalised',
    modelTypes: ['mixtral'],
    ...LOCAL_SIZES,
    routing: NORM_ALWAYS,
    stacks: [{ ...LAYERS, sparse: sparseLayers(), naming: blockSparse() }],
  },
  {
    models: 'Mistral 4',
    routed: 'softmax, groups by their two best',
    modelTypes: ['mistral4'],
    ...ROUTED_SIZES,
    only: { scoring_func: ['softmax'] },
    routing: scored({
      score: 'softmax',
      norm: 'norm_topk_prob',
      normDefault: true,
      epsilon: DEEPSEEK_EPSILON,
      scale: 'routed_scaling_factor',
      scaleDefault: 1,
      groups: { count: 'n_group', kept: 'topk_group', score: 'top2_sum' },
    }),
    stacks: [
      {
        ...LAYERS,
        sparse: sparseLayers(),
        naming: [
          mlpNaming({
            experts: [
              { kind: 'fused', gateUp: 'experts.gate_up_proj', down: 'experts.down_proj', major: 'output' },
            ],
            shared: DEEPSEEK_SHARED,
          }),
        ],
      },
    ],
  },
]
