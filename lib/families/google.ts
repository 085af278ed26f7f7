/** Gemma 4, and Switch Transformers, whose layers are counted through: the encoder's first, then the decoder's. */

import type { FamilyRow, Stack } from './parts/family.js'
import { LAYERS } from './parts/fields.js'
import { CLASSIFIER, mlpNaming, tensor } from './parts/layouts.js'
import { scored } from './parts/scoring.js'
import { bySparseCount, sparseLayers } from './parts/sparse-layers.js'

function switchStack(numLayers: Stack['numLayers'], sparseField: string, layer: string): Stack {
  return {
    numLayers,
    sparse: bySparseCount(numLayers, sparseField),
    naming: [
      {
        layer,
        block: 'mlp.',
        router: CLASSIFIER,
        experts: [{ kind: 'perExpert', up: 'experts.expert_{e}.wi', down: 'experts.expert_{e}.wo' }],
      },
    ],
  }
}

export const GOOGLE_FAMILIES: readonly FamilyRow[] = [
  {
    models: 'Gemma 4, DiffusionGemma',
    routed: 'softmax on an input of its own, per-expert scale',
    modelTypes: ['gemma4', 'diffusion_gemma'],
    hiddenSize: 'hidden_size',
    numExperts: 'num_experts',
    topK: 'top_k_experts',
    activation: 'hidden_activation',
    defaultActivation: 'gelu_pytorch_tanh',
    routing: scored({ norm: true }),
    shape: config => ({ routerInput: 'separate', routerNormEpsilon: config.number('rms_norm_eps', 1e-6) }),
    stacks: [
      {
        ...LAYERS,
        sparse: (config, layer) => config.boolean('enable_moe_block', false) && sparseLayers()(config, layer),
        naming: [
          mlpNaming({
            block: '',
            router: {
              weight: ['router.proj.weight', 'moe.router.proj.weight'],
              inputScale: tensor('router.scale', 'moe.router.scale'),
              perExpertScale: tensor(
                'router.per_expert_scale',
                'moe.router.per_expert_scale',
                'moe.per_expert_scale',
              ),
            },
            experts: [
              { kind: 'fused', gateUp: 'experts.gate_up_proj', down: 'experts.down_proj', major: 'output' },
            ],
          }),
        ],
      },
    ],
  },
  {
    models: 'Switch Transformers',
    routed: 'softmax with expert capacity',
    modelTypes: ['switch_transformers'],
    hiddenSize: 'd_model',
    numExperts: 'num_experts',
    topK: 1,
    only: { is_gated_act: [false] },
    activation: 'dense_act_fn',
    defaultActivation: 'relu',
    routing: (config, { numExperts }) => ({
      scoringFunc: 'softmax',
      numExperts,
      topK: 1,
      normTopkProb: false,
      capacity: { kind: 'per_sequence', expertCapacity: config.integer('expert_capacity', 1, 64) },
    }),
    shape: () => ({ gated: false }),
    stacks: [
      switchStack('num_layers', 'num_sparse_encoder_layers', 'encoder.block.{L}.layer.1.'),
      switchStack(
        ['num_decoder_layers', 'num_layers'],
        'num_sparse_decoder_layers',
        'decoder.block.{L}.layer.2.',
      ),
    ],
  },
]
