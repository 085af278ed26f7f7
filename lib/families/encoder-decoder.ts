/** Switch Transformers and NLLB-MoE. Layers are counted through: the encoder's first, then the decoder's. */

import type { FamilyRow, Naming, Stack } from './family.js'
import { flag, tensorWhen } from './naming.js'
import { bySparseCount, bySparseStep } from './sparse-layers.js'

/** Machine epsilon by `router_dtype`. */
const EPSILON: Readonly<Record<string, number>> = { float32: 2 ** -23, float16: 2 ** -10, bfloat16: 2 ** -7 }

const ROUTER: Naming['router'] = {
  weight: ['router.classifier.weight'],
  bias: tensorWhen(flag('router_bias', false), 'router.classifier.bias'),
}

function switchStack(numLayers: Stack['numLayers'], sparseField: string, layer: string): Stack {
  return {
    numLayers,
    sparse: bySparseCount(numLayers, sparseField),
    naming: [
      {
        layer,
        block: 'mlp.',
        router: ROUTER,
        experts: [{ kind: 'perExpert', up: 'experts.expert_{e}.wi', down: 'experts.expert_{e}.wo' }],
      },
    ],
  }
}

function nllbStack(side: 'encoder' | 'decoder'): Stack {
  return {
    numLayers: `${side}_layers`,
    sparse: bySparseStep(`${side}_sparse_step`),
    naming: [
      {
        layer: `model.${side}.layers.{L}.`,
        block: 'ffn.',
        router: ROUTER,
        experts: [
          {
            kind: 'perExpert',
            up: 'experts.expert_{e}.fc1',
            down: 'experts.expert_{e}.fc2',
            bias: () => true,
          },
        ],
      },
    ],
  }
}

export const ENCODER_DECODER_FAMILIES: readonly FamilyRow[] = [
  {
    modelTypes: ['switch_transformers'],
    hiddenSize: 'd_model',
    numExperts: 'num_experts',
    topK: 1,
    activation: 'dense_act_fn',
    defaultActivation: 'relu',
    routing: (config, { numExperts }) => ({
      scoringFunc: 'softmax',
      numExperts,
      topK: 1,
      normTopkProb: false,
      capacity: { kind: 'per_sequence', expertCapacity: config.integer('expert_capacity', 1) },
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
  {
    // moe_token_dropout multiplies the output at inference too.
    modelTypes: ['nllb-moe', 'nllb_moe'],
    hiddenSize: 'd_model',
    numExperts: 'num_experts',
    topK: 2,
    activation: 'activation_function',
    defaultActivation: 'relu',
    only: { second_expert_policy: ['all'], router_dtype: Object.keys(EPSILON) },
    routing: (config, { numExperts }) => ({
      scoringFunc: 'softmax',
      numExperts,
      topK: 2,
      normTopkProb: true,
      normFloor: EPSILON[config.string('router_dtype', 'float32')]!,
      routedScalingFactor: 1 - config.number('moe_token_dropout'),
      capacity: {
        kind: 'batch',
        ...(config.has('expert_capacity') ? { expertCapacity: config.integer('expert_capacity', 0) } : {}),
        tokenFraction: Math.max(0, config.number('moe_eval_capacity_token_fraction', 0)),
        normalizeBeforeDropping: config.boolean('normalize_router_prob_before_dropping', false),
        batchPrioritized: config.boolean('batch_prioritized_routing', false),
      },
    }),
    shape: () => ({ gated: false }),
    stacks: [nllbStack('encoder'), nllbStack('decoder')],
  },
]
