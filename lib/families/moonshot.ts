/** Kimi K2, which is DeepSeek-V3's block, Kimi Linear and Kimi-K3. */

import type { MoeShape } from '../block/config.js'
import type { ConfigReader } from './parts/config-reader.js'
import { DEEPSEEK_V3_DEFAULTS, DEEPSEEK_V3_ONLY } from './parts/deepseek-block.js'
import type { FamilyRow } from './parts/family.js'
import { LAYERS, ROUTED_SIZES, SIZES } from './parts/fields.js'
import { mlpNaming, sharedMlp, tensor, W1_W2_W3 } from './parts/layouts.js'
import { DEEPSEEK_EPSILON, scored } from './parts/scoring.js'
import { sparseLayers } from './parts/sparse-layers.js'

/** The block of Kimi Linear, in which Kimi-K3's experts work in a width of their own. */
const KIMI_LINEAR = {
  ...SIZES,
  topK: 'num_experts_per_token',
  only: { moe_router_activation_func: ['sigmoid'], use_grouped_topk: [true] },
  routing: scored({
    score: 'sigmoid',
    norm: 'moe_renormalize',
    normDefault: true,
    epsilon: DEEPSEEK_EPSILON,
    onlyAboveOne: true,
    scale: 'routed_scaling_factor',
    scaleDefault: 1,
    groups: { count: 'num_expert_group', kept: 'topk_group', score: 'top2_sum' },
  }),
  stacks: [
    {
      ...LAYERS,
      sparse: sparseLayers(),
      naming: [
        mlpNaming({
          block: 'block_sparse_moe.',
          router: { selectionBias: tensor('gate.e_score_correction_bias') },
          experts: W1_W2_W3,
          shared: sharedMlp('shared_experts.', 'num_shared_experts'),
          latent: {
            down: 'routed_expert_down_proj',
            up: 'routed_expert_up_proj',
            norm: 'routed_expert_norm',
          },
        }),
      ],
    },
  ],
} as const satisfies Partial<FamilyRow>

/** `latent_moe_use_norm`: the sum over the experts is normalised before it is projected up. */
function kimiK3Shape(config: ConfigReader): Partial<MoeShape> {
  const latentSize = config.isNull(LATENT) ? 0 : config.integer(LATENT, 1)
  const hasNorm = config.boolean('latent_moe_use_norm', false)
  const isSitu = config.string('hidden_act', 'silu') === 'situ'
  const has = (field: string) => config.has(field) && config.number(field) !== 0
  const linear = has(LINEAR_BETA) ? config.number(LINEAR_BETA) : 0
  return {
    latentSize,
    ...(hasNorm ? { latentNormEpsilon: config.number('rms_norm_eps', 1e-6) } : {}),
    ...(isSitu
      ? {
          swigluAlpha: has(BETA) ? config.number(BETA) : 1,
          swigluLimit: linear,
          ...(config.integer('num_shared_experts', 0, 0) > 0 ? { sharedSwigluLimit: linear } : {}),
        }
      : {}),
  }
}
const LATENT = 'routed_expert_hidden_size'
const BETA = 'activation_situ_beta'
const LINEAR_BETA = 'activation_situ_linear_beta'

export const MOONSHOT_FAMILIES: readonly FamilyRow[] = [
  {
    models: 'Kimi-K2, K2.5',
    routed: 'as DeepSeek-V3',
    modelTypes: ['kimi_k2'],
    ...ROUTED_SIZES,
    only: DEEPSEEK_V3_ONLY,
    ...DEEPSEEK_V3_DEFAULTS,
  },
  {
    models: 'Kimi Linear',
    routed: 'as DeepSeek-V3',
    modelTypes: ['kimi_linear'],
    ...KIMI_LINEAR,
  },
  {
    models: 'Kimi-K3',
    routed: 'as DeepSeek-V3; experts in a latent space',
    modelTypes: ['kimi_k3'],
    // Its language model has the type of the one before.
    alsoAs: [{ modelType: 'kimi_linear', when: config => config.has(LATENT) }],
    ...KIMI_LINEAR,
    shape: kimiK3Shape,
  },
]
