/** DBRX. */

import type { FamilyRow } from './parts/family.js'
import { sparseLayers } from './parts/sparse-layers.js'

export const DATABRICKS_FAMILIES: readonly FamilyRow[] = [
  {
    models: 'DBRX',
    routed: 'softmax, p-norm',
    modelTypes: ['dbrx'],
    hiddenSize: 'd_model',
    numExperts: 'ffn_config.moe_num_experts',
    topK: 'ffn_config.moe_top_k',
    activation: 'ffn_config.ffn_act_fn.name',
    only: { 'ffn_config.uniform_expert_assignment': [false] },
    routing: (config, sizes) => {
      const order = 'ffn_config.moe_normalize_expert_weights'
      return config.isNull(order)
        ? { scoringFunc: 'softmax', ...sizes, normTopkProb: false }
        : { scoringFunc: 'softmax', ...sizes, normTopkProb: true, normOrder: config.number(order, 1) }
    },
    stacks: [
      {
        numLayers: 'n_layers',
        sparse: sparseLayers(),
        naming: [
          {
            layer: 'blocks.{L}.',
            block: 'ffn.',
            router: { weight: ['router.layer.weight'] },
            experts: [
              { kind: 'stackedRows', gate: 'experts.mlp.w1', up: 'experts.mlp.v1', down: 'experts.mlp.w2' },
              {
                kind: 'perExpert',
                gate: 'experts.mlp.{e}.w1',
                up: 'experts.mlp.{e}.v1',
                down: 'experts.mlp.{e}.w2',
              },
            ],
          },
        ],
      },
    ],
  },
]
