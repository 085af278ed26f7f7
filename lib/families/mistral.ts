/** Mixtral, and Mistral 4. */

import { DEEPSEEK_SHARED } from './parts/deepseek-block.js'
import type { FamilyRow } from './parts/family.js'
import { LAYERS, LOCAL_SIZES, ROUTED_SIZES } from './parts/fields.js'
import { BLOCK_SPARSE, mlpNaming } from './parts/layouts.js'
import { DEEPSEEK_EPSILON, NORM_ALWAYS, scored } from './parts/scoring.js'
import { everyLayer, fromLayer } from './parts/sparse-layers.js'

export const MISTRAL_FAMILIES: readonly FamilyRow[] = [
  {
    modelTypes: ['mixtral'],
    ...LOCAL_SIZES,
    routing: NORM_ALWAYS,
    stacks: [{ ...LAYERS, sparse: everyLayer, naming: [mlpNaming(BLOCK_SPARSE)] }],
  },
  {
    modelTypes: ['mistral4'],
    ...ROUTED_SIZES,
    routing: scored({
      score: 'softmax',
      norm: 'norm_topk_prob',
      epsilon: DEEPSEEK_EPSILON,
      scale: 'routed_scaling_factor',
      groups: { count: 'n_group', kept: 'topk_group', score: 'top2_sum' },
    }),
    stacks: [
      {
        ...LAYERS,
        sparse: fromLayer('first_k_dense_replace'),
        naming: [
          mlpNaming({
            experts: [
              { kind: 'fused', gateUp: 'experts.gate_up_proj', down: 'experts.down_proj', major: 'output' },
              {
                kind: 'perExpert',
                gate: 'experts.{e}.gate_proj',
                up: 'experts.{e}.up_proj',
                down: 'experts.{e}.down_proj',
              },
            ],
            shared: DEEPSEEK_SHARED,
          }),
        ],
      },
    ],
  },
]
