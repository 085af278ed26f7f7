/** gpt-oss and the privacy filter. */

import type { FamilyRow, Stack } from './parts/family.js'
import { LAYERS, LOCAL_SIZES } from './parts/fields.js'
import { mlpNaming, tensor } from './parts/layouts.js'
import { topkSoftmax } from './parts/scoring.js'
import { sparseLayers } from './parts/sparse-layers.js'

/** gpt-oss: `(up + 1) * gate * sigmoid(1.702 * gate)`, gate capped and up clamped at the limit. */
const GPT_OSS_SHAPE = { swigluAlpha: 1.702, swigluUpOffset: 1 }
const GPT_OSS_LIMIT = 7

/** Biases everywhere, matrices input-major where they are not quantised; gate and up alternate, or are halves. */
function gptOssStack(interleaved: boolean): Stack {
  const experts = {
    gateUp: 'experts.gate_up_proj',
    down: 'experts.down_proj',
    major: 'input',
    interleaved,
  } as const
  return {
    ...LAYERS,
    sparse: sparseLayers(),
    naming: [
      mlpNaming({
        router: { weight: ['router.weight'], bias: tensor('router.bias') },
        experts: [{ kind: 'fused', ...experts, bias: () => true }],
      }),
    ],
  }
}

export const OPENAI_FAMILIES: readonly FamilyRow[] = [
  {
    models: 'gpt-oss',
    routed: 'softmax over the selected logits, router bias',
    modelTypes: ['gpt_oss'],
    ...LOCAL_SIZES,
    routing: topkSoftmax,
    shape: config => ({ ...GPT_OSS_SHAPE, swigluLimit: config.number('swiglu_limit', GPT_OSS_LIMIT) }),
    stacks: [gptOssStack(true)],
  },
  {
    // Weights divided by k and the sum multiplied by k: nothing. Gate and up are halves here.
    models: 'OpenAI privacy filter',
    routed: 'softmax over the selected logits, router bias',
    modelTypes: ['openai_privacy_filter'],
    ...LOCAL_SIZES,
    only: { swiglu_limit: [GPT_OSS_LIMIT] },
    routing: topkSoftmax,
    shape: () => ({ ...GPT_OSS_SHAPE, swigluLimit: GPT_OSS_LIMIT }),
    stacks: [gptOssStack(false)],
  },
]
