/** Qwen2, Qwen3 and their successors. */

import type { FamilyRow } from './parts/family.js'
import { LAYERS, SIZES } from './parts/fields.js'
import { FUSED_INPUT_MAJOR, mlpNaming, sharedMlp } from './parts/layouts.js'
import { NORM_ALWAYS, NORM_FLAG_OFF } from './parts/scoring.js'
import { byDecoderSparseStep, everyLayer } from './parts/sparse-layers.js'

/** Always there, behind a sigmoid. */
const SHARED = sharedMlp('shared_expert.', '', {
  count: () => 1,
  weight: { names: ['shared_expert_gate.weight'], mode: 'sigmoid' },
})

export const QWEN_FAMILIES: readonly FamilyRow[] = [
  {
    modelTypes: ['qwen2_moe', 'qwen3_next'],
    ...SIZES,
    routing: NORM_FLAG_OFF,
    stacks: [{ ...LAYERS, sparse: byDecoderSparseStep, naming: [mlpNaming({ shared: SHARED })] }],
  },
  {
    modelTypes: ['qwen3_moe', 'qwen3_omni_moe', 'qwen3_omni_moe_thinker'],
    ...SIZES,
    routing: NORM_FLAG_OFF,
    stacks: [{ ...LAYERS, sparse: byDecoderSparseStep, naming: [mlpNaming()] }],
  },
  {
    modelTypes: ['qwen3_vl_moe'],
    ...SIZES,
    routing: NORM_ALWAYS,
    stacks: [
      {
        ...LAYERS,
        sparse: byDecoderSparseStep,
        naming: [
          mlpNaming({
            experts: FUSED_INPUT_MAJOR,
          }),
        ],
      },
    ],
  },
  {
    modelTypes: ['qwen3_5_moe'],
    ...SIZES,
    routing: NORM_ALWAYS,
    stacks: [{ ...LAYERS, sparse: everyLayer, naming: [mlpNaming({ shared: SHARED })] }],
  },
]
