/** The activation between an expert's two matmuls. */

import type { Activation, ResolvedMoeConfig } from '../block/config.js'
import { invalidArgType, invalidArgValue } from '../block/errors.js'
import { ACTIVATIONS } from '../spec/enums.js'
import { sigmoid } from './scores.js'

/** The part of a config that says how gate and up become one. */
export type ActivationSpec = Pick<
  ResolvedMoeConfig,
  'activation' | 'gated' | 'swigluLimit' | 'swigluAlpha' | 'swigluUpOffset'
> &
  Partial<Pick<ResolvedMoeConfig, 'swigluGateLimit'>>

/** `erf(x)` for |x| < 2: `2/√π · e^(−x²) · Σ 2ⁿ x^(2n+1) / (2n+1)!!`, whose terms all have one sign (Abramowitz & Stegun 7.1.6). */
function erfSeries(x: number): number {
  let term = x
  let sum = x
  for (let n = 1; Math.abs(term) > 1e-18 * Math.abs(sum); n++) {
    term *= (2 * x * x) / (2 * n + 1)
    sum += term
  }
  return (2 / Math.sqrt(Math.PI)) * Math.exp(-x * x) * sum
}

/** `erfc(x)` for x ≥ 2: continued fraction `e^(−x²)/√π · 1/(x + ½/(x + 1/(x + 3/2/(x + …))))` (Abramowitz & Stegun 7.1.14). */
function erfcFraction(x: number): number {
  let tail = x
  for (let n = 120; n >= 1; n--) tail = x + n / 2 / tail
  return Math.exp(-x * x) / Math.sqrt(Math.PI) / tail
}

/** The error function, to about 1e-15. */
export function erf(x: number): number {
  if (Number.isNaN(x)) return x
  if (Math.abs(x) < 2) return erfSeries(x)
  return Math.sign(x) * (1 - erfcFraction(Math.abs(x)))
}

/** `1 − erf(x)`, without cancellation for large x. */
export function erfc(x: number): number {
  if (Number.isNaN(x)) return x
  if (Math.abs(x) < 2) return 1 - erfSeries(x)
  return x > 0 ? erfcFraction(x) : 2 - erfcFraction(-x)
}

/**
 * One activation. `silu` is `v * σ(alpha * v)` (gpt-oss: alpha 1.702), `situ` is `alpha * tanh(v / alpha) * σ(v)` (Kimi-K3: alpha 4); alpha
 * is 1 for every other kind.
 */
export function activate(kind: Activation, v: number, alpha = 1): number {
  if (typeof v !== 'number') throw invalidArgType('v', 'a number', v)
  if (typeof alpha !== 'number') throw invalidArgType('alpha', 'a number', alpha)
  switch (kind) {
    case 'silu':
      return v * sigmoid(alpha * v)
    case 'gelu':
      return 0.5 * v * erfc(-v * Math.SQRT1_2)
    case 'gelu_pytorch_tanh':
      return 0.5 * v * (1 + Math.tanh(Math.sqrt(2 / Math.PI) * (v + 0.044715 * v ** 3)))
    case 'relu':
      return Math.max(v, 0)
    case 'relu2':
      return Math.max(v, 0) ** 2
    case 'identity':
      return v
    case 'situ':
      return alpha * Math.tanh(v / alpha) * sigmoid(v)
    default:
      throw invalidArgValue('kind', `one of ${ACTIVATIONS.join(', ')}`, kind)
  }
}

/**
 * One element between the matmuls. Gated: `act(min(gate, gateLimit or limit)) * (clamp(up, ±limit) + upOffset)`, the gate capped from above only
 * (gpt-oss `swiglu`, DeepSeek-V4 `swiglu_limit`); not gated: `act(up)`. `situ` bounds up by `limit * tanh(up / limit)`, and the gate by
 * itself (Kimi-K3 `SituAndMul`).
 */
export function activateElement(spec: ActivationSpec, gate: number, up: number): number {
  if (!spec.gated) return activate(spec.activation, up, spec.swigluAlpha)
  if (spec.activation === 'situ') {
    const bounded = spec.swigluLimit > 0 ? spec.swigluLimit * Math.tanh(up / spec.swigluLimit) : up
    return activate('situ', gate, spec.swigluAlpha) * (bounded + spec.swigluUpOffset)
  }
  const limit = spec.swigluLimit > 0 ? spec.swigluLimit : Number.POSITIVE_INFINITY
  const g = Math.min(gate, spec.swigluGateLimit ? spec.swigluGateLimit : limit)
  const u = Math.max(-limit, Math.min(up, limit))
  return activate(spec.activation, g, spec.swigluAlpha) * (u + spec.swigluUpOffset)
}
