/** Names of activations in configs, and what they mean here. */

import type { Activation } from '../../block/config.js'
import type { ConfigReader } from './config-reader.js'

const ACTIVATIONS: Readonly<Record<string, { activation: Activation; swigluAlpha?: number }>> = {
  silu: { activation: 'silu' },
  swish: { activation: 'silu' },
  swiglu: { activation: 'silu' },
  gelu: { activation: 'gelu' },
  gelu_python: { activation: 'gelu' },
  gelu_new: { activation: 'gelu_pytorch_tanh' },
  gelu_fast: { activation: 'gelu_pytorch_tanh' },
  gelu_pytorch_tanh: { activation: 'gelu_pytorch_tanh' },
  quick_gelu: { activation: 'silu', swigluAlpha: 1.702 },
  relu: { activation: 'relu' },
  relu2: { activation: 'relu2' },
  relu_squared: { activation: 'relu2' },
  linear: { activation: 'identity' },
  situ: { activation: 'situ' },
}

/** Reads an activation field; an unknown name is ERR_MOE_INVALID_CONFIG that lists the known ones. */
export function readActivation(
  config: ConfigReader,
  field: string,
  fallback: string,
): { activation: Activation; swigluAlpha?: number } {
  const name = config.string(field, fallback)
  if (!Object.hasOwn(ACTIVATIONS, name)) {
    config.fail(field, `'${name}' is not supported; supported: ${Object.keys(ACTIVATIONS).join(', ')}`)
  }
  return ACTIVATIONS[name]!
}

/**
 * The gate whose silu is `cap` > 0: `min(silu(g), cap)` is silu of g capped there, because silu rises wherever it is positive. Newton's
 * method from above, where silu is convex enough for it to fall towards the root and not past it.
 */
export function gateOfSilu(cap: number): number {
  let gate = cap + 1
  for (let step = 0; step < 60; step++) {
    const sigmoid = 1 / (1 + Math.exp(-gate))
    const next = gate - (gate * sigmoid - cap) / (sigmoid * (1 + gate * (1 - sigmoid)))
    if (next === gate) break
    gate = next
  }
  return gate
}
