/** The description of one MoE block: sizes, routing rule, activation, shared experts. */

import type { Activation, SharedGate } from '../spec/enums.js'
import type { ResolvedRouting, RoutingRule } from './routing.js'

/**
 * Expert activation. `silu` is `g * sigmoid(swigluAlpha * g)`; `gelu` the erf form; `relu2` is `max(v, 0)²`; `situ` (Kimi-K3) is
 * `a * tanh(g / a) * sigmoid(g)` with a = swigluAlpha, and makes `l * tanh(u / l)` of up, l = swigluLimit.
 */
export type { Activation }

/** Sizes and arithmetic besides routing. H = hiddenSize, I = intermediateSize. */
export interface MoeShape {
  /** Hugging Face `model_type`, or any name of the caller's. @defaultValue 'custom' */
  family?: string
  /** Width of the block's input and output. */
  hiddenSize: number
  /** Width between an expert's two matmuls. */
  intermediateSize: number
  /** @defaultValue 'silu' */
  activation?: Activation
  /** `true`: `act(gate x) * (up x)`; `false`: `act(up x)`. @defaultValue true */
  gated?: boolean
  /** Gate is capped from above, up clamped to ±limit, before the activation; with `situ` the bound of up. @defaultValue none */
  swigluLimit?: number
  /**
   * Cap of the gate where it is another than of up. A cap L that follows silu (Step-3.5) is one before it, at the g with silu(g) = L.
   * @defaultValue swigluLimit
   */
  swigluGateLimit?: number
  /** gpt-oss: 1.702; Kimi-K3: 4. @defaultValue 1 */
  swigluAlpha?: number
  /** Added to up before the product (gpt-oss: 1). @defaultValue 0 */
  swigluUpOffset?: number
  /** Shared experts, all fused into one MLP of width `sharedIntermediateSize`. @defaultValue 0 */
  numSharedExperts?: number
  /** Width of the fused shared MLP. @defaultValue numSharedExperts * intermediateSize */
  sharedIntermediateSize?: number
  /**
   * `plain`: y = routed + shared; `sigmoid`: y = routed + c·shared; `mix`: y = (1−c)·routed + c·shared, c = σ(sharedGate · x + sharedLogitBias).
   * @defaultValue 'plain'
   */
  sharedGate?: SharedGate
  /** The same clamp in the shared MLP (DeepSeek-V4). @defaultValue none */
  sharedSwigluLimit?: number
  /** @defaultValue sharedSwigluLimit */
  sharedSwigluGateLimit?: number
  /** Where the routing weight multiplies an expert: its output, or its input (Llama 4). @defaultValue 'output' */
  weightOn?: 'output' | 'input'
  /** Experts work in this smaller dimension, between two projections (Nemotron-H). @defaultValue none */
  latentSize?: number
  /** The sum over the experts becomes `s / sqrt(mean(s²) + eps) * latentNorm` before it is projected up (Kimi-K3). @defaultValue none */
  latentNormEpsilon?: number
  /** `separate`: every call must bring `routerInput` (Gemma 4). @defaultValue 'hidden' */
  routerInput?: 'hidden' | 'separate'
  /** The router reads `r / sqrt(mean(r²) + eps) * inputScale * H^-0.5` instead of r (Gemma 4). @defaultValue none */
  routerNormEpsilon?: number
}

/** A whole block. */
export type MoeConfig = RoutingRule & MoeShape

/** A config with every default written out: what `layer.config` is, and what backends read. Made by `resolveConfig` only. */
export interface ResolvedMoeConfig extends ResolvedRouting {
  readonly family: string
  readonly hiddenSize: number
  readonly intermediateSize: number
  readonly activation: Activation
  readonly gated: boolean
  /** 0: none. */
  readonly swigluLimit: number
  /** 0: swigluLimit. */
  readonly swigluGateLimit: number
  readonly swigluAlpha: number
  readonly swigluUpOffset: number
  readonly numSharedExperts: number
  readonly sharedIntermediateSize: number
  readonly sharedGate: SharedGate
  readonly sharedSwigluLimit: number
  /** 0: sharedSwigluLimit. */
  readonly sharedSwigluGateLimit: number
  readonly weightOn: 'output' | 'input'
  /** 0: experts work in hiddenSize. */
  readonly latentSize: number
  /** 0: the sum is projected as it is. */
  readonly latentNormEpsilon: number
  readonly routerInput: 'hidden' | 'separate'
  /** 0: the router reads its input as it is. */
  readonly routerNormEpsilon: number
}
