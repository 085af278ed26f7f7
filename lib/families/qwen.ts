/** Qwen2, Qwen3 and their successors. */

import type { FamilyRow } from './parts/family.js'
import { LAYERS, SIZES } from './parts/fields.js'
import { FUSED_INPUT_MAJOR, mlpNaming, sharedMlp } from './parts/layouts.js'
import { NORM_ALWAYS, NORM_FLAG_OFF, NORM_FLAG_ON } from './parts/scoring.js'
import { sparseLayers } from './parts/sparse-layers.js'

/** Behind a sigmoid; there unless its width is 0. */
const SHARED = sharedMlp('shared_expert.', '', {
  count: config => (config.integer('shared_expert_intermediate_size', 0, 1) > 0 ? 1 : 0),
  weight: { names: ['shared_expert_gate.weight'], mode: 'sigmoid' },
})

export const QWEN_FAMILIES: readonly FamilyRow[] = [
  {
    models: 'Qwen1.5-MoE, Qwen2-MoE',
    routed: 'softmax; shared expert behind a sigmoid',
    modelTypes: ['qwen2_moe'],
    ...SIZES,
    routing: NORM_FLAG_OFF,
    stacks: [{ ...LAYERS, sparse: sparseLayers(), naming: [mlpNaming({ shared: SHARED })] }],
  },
  {
    models: 'Qwen3-Next, Qwen3-Coder-Next, Qwen3.8-Flash-Next',
    routed: 'softmax, renormalised; shared expert behind a sigmoid',
    modelTypes: ['qwen3_next', 'qwen4_exp'],
    ...SIZES,
    routing: NORM_FLAG_ON,
    stacks: [{ ...LAYERS, sparse: sparseLayers(), naming: [mlpNaming({ shared: SHARED })] }],
  },
  {
    models: 'Qwen3-MoE, SDAR',
    routed: 'softmax, renormalised where the config says so',
    modelTypes: ['qwen3_moe', 'sdar_moe'],
    ...SIZES,
    routing: NORM_FLAG_OFF,
    stacks: [{ ...LAYERS, sparse: sparseLayers(), naming: [mlpNaming()] }],
  },
  {
    models: 'Qwen3-Omni',
    routed: 'softmax, renormalised',
    modelTypes: ['qwen3_omni_moe', 'qwen3_omni_moe_thinker'],
    ...SIZES,
    routing: NORM_FLAG_ON,
    stacks: [{ ...LAYERS, sparse: sparseLayers(), naming: [mlpNaming()] }],
  },
  {
    models: 'Qwen3-Omni, its talker (option `module`)',
    routed: 'softmax, renormalised where the config says so; shared expert behind a sigmoid',
    modelTypes: ['qwen3_omni_moe_talker'],
    ...SIZES,
    routing: NORM_FLAG_OFF,
    stacks: [{ ...LAYERS, sparse: sparseLayers(), naming: [mlpNaming({ shared: SHARED })] }],
  },
  {
    models: 'Qwen3-VL',
    routed: 'softmax, renormalised',
    modelTypes: ['qwen3_vl_moe'],
    ...SIZES,
    routing: NORM_ALWAYS,
    stacks: [
      {
        ...LAYERS,
        sparse: sparseLayers(),
        naming: [
          mlpNaming({
            experts: FUSED_INPUT_MAJOR,
          }),
        ],
      },
    ],
  },
  {
    models: 'Qwen3.5, Qwen3.6',
    routed: 'softmax, renormalised; shared expert behind a sigmoid',
    modelTypes: ['qwen3_5_moe'],
    ...SIZES,
    routing: NORM_ALWAYS,
    stacks: [{ ...LAYERS, sparse: sparseLayers(), naming: [mlpNaming({ shared: SHARED })] }],
  },
]
