/** Llama 4, and NLLB-MoE, whose layers are counted through: the encoder's first, then the decoder's. */

import type { FamilyRow, Stack } from './parts/family.js'
import { LAYERS, LOCAL_SIZES } from './parts/fields.js'
import { CLASSIFIER, FUSED_INPUT_MAJOR, mlpNaming, sharedMlp } from './parts/layouts.js'
import { bySparseStep, sparseLayers } from './parts/sparse-layers.js'

/** Machine epsilon by `router_dtype`. */
const EPSILON: Readonly<Record<string, number>> = { float32: 2 ** -23, float16: 2 ** -10, bfloat16: 2 ** -7 }

function nllbStack(side: 'encoder' | 'decoder'): Stack {
  return {
    numLayers: `${side}_layers`,
    sparse: bySparseStep(`${side}_sparse_step`),
    naming: [
      {
        layer: `${side}.layers.{L}.`,
        block: 'ffn.',
        router: CLASSIFIER,
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

export const META_FAMILIES: readonly FamilyRow[] = [
  {
    models: 'Llama 4',
    routed: 'sigmoid of the selected logits, on the experts’ input',
    modelTypes: ['llama4'],
    ...LOCAL_SIZES,
    routing: (_config, sizes) => ({ scoringFunc: 'topk_sigmoid', ...sizes }),
    shape: () => ({ weightOn: 'input' }),
    stacks: [
      {
        ...LAYERS,
        sparse: sparseLayers(),
        naming: [
          mlpNaming({
            block: 'feed_forward.',
            router: { weight: ['router.weight'] },
            experts: FUSED_INPUT_MAJOR,
            shared: sharedMlp('shared_expert.', '', { count: () => 1 }),
          }),
        ],
      },
    ],
  },
  {
    // moe_token_dropout multiplies the output at inference too.
    models: 'NLLB-MoE',
    routed: 'softmax with expert capacity',
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
      routedScalingFactor: 1 - config.number('moe_token_dropout', 0.2),
      capacity: {
        kind: 'batch',
        // Null, as opposed to absent, is `2 * ceil(T / E)`.
        ...(config.isNull('expert_capacity')
          ? {}
          : { expertCapacity: config.integer('expert_capacity', 0, 64) }),
        tokenFraction: Math.max(0, config.number('moe_eval_capacity_token_fraction', 1)),
        normalizeBeforeDropping: config.boolean('normalize_router_prob_before_dropping', false),
        batchPrioritized: config.boolean('batch_prioritized_routing', false),
      },
    }),
    shape: () => ({ gated: false }),
    stacks: [nllbStack('encoder'), nllbStack('decoder')],
  },
]
