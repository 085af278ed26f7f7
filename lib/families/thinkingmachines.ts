/** Inkling: its router scores the shared experts together with the routed ones, and all that a token uses are weighed by one sum. */

import type { ExpertLayout, FamilyRow } from './parts/family.js'
import { LAYERS, ROUTED_SIZES } from './parts/fields.js'
import { mlpNaming, tensor } from './parts/layouts.js'
import { scored } from './parts/scoring.js'
import { sparseLayers } from './parts/sparse-layers.js'

const interleaved = (gateUp: string, down: string): ExpertLayout => ({
  kind: 'fused',
  ...{ gateUp, down },
  major: 'output',
  interleaved: true,
})

export const THINKING_MACHINES_FAMILIES: readonly FamilyRow[] = [
  {
    models: 'Inkling',
    routed: 'sigmoid with selection bias, over routed and shared experts',
    modelTypes: ['inkling_mm_model', 'inkling'],
    ...ROUTED_SIZES,
    only: {
      norm_after_topk: [true],
      use_gate_bias: [true],
      use_global_scale: [true],
      shared_expert_sink: [true],
      shared_experts_size: [1],
      gate_activation: ['sigmoid'],
    },
    routing: scored({ score: 'sigmoid', norm: true, scale: 'route_scale', scaleDefault: 8 }),
    stacks: [
      {
        ...LAYERS,
        sparse: sparseLayers(),
        naming: [
          mlpNaming({
            router: {
              selectionBias: tensor('gate.bias', 'gate.e_score_correction_bias'),
              commonScale: tensor('gate.global_scale'),
            },
            experts: [interleaved('experts.w13_weight', 'experts.w2_weight')],
            constant: {
              count: config => config.integer('n_shared_experts', 0, 2),
              stem: 'shared_experts.',
              experts: [interleaved('shared_experts.shared_w13_weight', 'shared_experts.shared_w2_weight')],
            },
          }),
        ],
      },
    ],
  },
]
