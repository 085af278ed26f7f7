/** Step-3.5 and 3.7. */

import type { MoeShape } from '../block/config.js'
import { gateOfSilu } from './parts/activation.js'
import type { ConfigReader } from './parts/config-reader.js'
import type { FamilyRow, RoutingSizes } from './parts/family.js'
import { LAYERS } from './parts/fields.js'
import { mlpNaming, sharedOfWidth, tensorWhen } from './parts/layouts.js'
import { DEEPSEEK_EPSILON, scored } from './parts/scoring.js'
import { sparseLayers } from './parts/sparse-layers.js'

const hasBias = (config: ConfigReader) => config.boolean('use_moe_router_bias', false)
const SCALE = { scale: 'moe_router_scaling_factor', scaleDefault: 1 }
const biased = scored({ score: 'sigmoid', norm: true, epsilon: DEEPSEEK_EPSILON, ...SCALE })

/** Without a bias the sum has no epsilon, and softmax is not renormalised. */
function routing(config: ConfigReader, sizes: RoutingSizes, layer: number) {
  const isSigmoid = config.string('moe_router_activation', 'softmax') === 'sigmoid'
  const plain = scored({ score: isSigmoid ? 'sigmoid' : 'softmax', norm: isSigmoid, ...SCALE })
  return (hasBias(config) ? biased : plain)(config, sizes, layer)
}

/** The limit of a layer; 0 and null: none. */
function limitOf(config: ConfigReader, field: string, layer: number): number {
  const list = config.raw(field)
  if (list === undefined) return 0
  if (!Array.isArray(list)) return config.fail(field, 'must be a list with a number for each layer')
  const limit: unknown = list[layer] ?? 0
  if (typeof limit !== 'number' || !(limit >= 0 && limit < Number.POSITIVE_INFINITY))
    return config.fail(field, `must hold numbers that are not negative, is not for layer ${layer}`)
  return limit
}

/** Limits cap the gate after silu, which is a cap before it of another height. */
function shape(config: ConfigReader, layer: number): Partial<MoeShape> {
  const limit = limitOf(config, 'swiglu_limits', layer)
  const shared = limitOf(config, 'swiglu_limits_shared', layer)
  return {
    ...(limit > 0 ? { swigluLimit: limit, swigluGateLimit: gateOfSilu(limit) } : {}),
    ...(shared > 0 ? { sharedSwigluLimit: shared, sharedSwigluGateLimit: gateOfSilu(shared) } : {}),
  }
}

export const STEPFUN_FAMILIES: readonly FamilyRow[] = [
  {
    models: 'Step-3.5-Flash, Step-3.7-Flash',
    routed: 'sigmoid with selection bias',
    modelTypes: ['step3p5', 'step3p7'],
    hiddenSize: 'hidden_size',
    numExperts: 'moe_num_experts',
    topK: 'moe_top_k',
    only: { moe_router_activation: ['sigmoid', 'softmax'], norm_expert_weight: [true] },
    activation: null,
    routing,
    shape,
    stacks: [
      {
        ...LAYERS,
        sparse: sparseLayers({ numDense: 1 }),
        naming: [
          mlpNaming({
            block: 'moe.',
            router: { selectionBias: tensorWhen(hasBias, 'router_bias') },
            experts: [
              {
                kind: 'fused',
                gate: 'gate_proj.weight',
                up: 'up_proj.weight',
                down: 'down_proj.weight',
                major: 'output',
              },
            ],
            shared: sharedOfWidth('/share_expert.', 'share_expert_dim'),
          }),
        ],
      },
    ],
  },
]
