/** Nemotron-H and what was made of it: experts without gate, in a latent space where the config has one. */

import { DEEPSEEK_V3_ONLY } from './parts/deepseek-block.js'
import type { FamilyRow } from './parts/family.js'
import { LAYERS, ROUTED_SIZES } from './parts/fields.js'
import { flag, tensor } from './parts/layouts.js'
import { noauxTc } from './parts/scoring.js'
import { sparseLayers } from './parts/sparse-layers.js'

const BIAS = flag('mlp_bias', false)

/** Everything but where a layer's sizes stand. */
const NEMOTRON = {
  ...ROUTED_SIZES,
  activation: 'mlp_hidden_act',
  defaultActivation: 'relu2',
  only: DEEPSEEK_V3_ONLY,
  routing: noauxTc(),
  shape: config => ({ gated: false, latentSize: config.integer('moe_latent_size', 0, 0) }),
  stacks: [
    {
      ...LAYERS,
      sparse: sparseLayers(),
      naming: [
        {
          layer: 'layers.{L}.',
          block: 'mixer.',
          router: { weight: ['gate.weight'], selectionBias: tensor('gate.e_score_correction_bias') },
          experts: [
            { kind: 'perExpert', up: 'experts.{e}.up_proj', down: 'experts.{e}.down_proj', bias: BIAS },
          ],
          shared: {
            count: config => config.integer('n_shared_experts', 0, 1),
            up: 'shared_experts.up_proj',
            down: 'shared_experts.down_proj',
            bias: BIAS,
          },
          latent: { down: 'fc1_latent_proj', up: 'fc2_latent_proj' },
        },
      ],
    },
  ],
} as const satisfies Partial<FamilyRow>

export const NVIDIA_FAMILIES: readonly FamilyRow[] = [
  {
    models: 'Nemotron-H, Nemotron 3',
    routed: 'as DeepSeek-V3; experts without gate, optional latent space',
    modelTypes: ['nemotron_h'],
    ...NEMOTRON,
  },
  {
    models: 'Nemotron 3 Puzzle',
    routed: 'as DeepSeek-V3; experts without gate, their number per token by layer',
    modelTypes: ['nemotron_h_puzzle'],
    ...NEMOTRON,
    // The widths of its layers are those of their tensors.
    topK: (config, layer) => {
      const block = config.item('block_configs', layer)
      return (block ?? config).integer(NEMOTRON.topK, 1)
    },
  },
]
