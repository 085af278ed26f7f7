/** Tensor names that several families share. */

import type { Condition, ExpertLayout, NamedTensor, Naming, SharedLayout } from './family.js'

/** One tensor per expert and projection. */
export const GATE_UP_DOWN: readonly ExpertLayout[] = [
  {
    kind: 'perExpert',
    gate: 'experts.{e}.gate_proj',
    up: 'experts.{e}.up_proj',
    down: 'experts.{e}.down_proj',
  },
]

/** w1 gate, w2 down, w3 up. */
export const W1_W2_W3: readonly ExpertLayout[] = [
  { kind: 'perExpert', gate: 'experts.{e}.w1', up: 'experts.{e}.w3', down: 'experts.{e}.w2' },
]

/** Mixtral's names, and those that transformers has in memory. */
export function blockSparse(more: Partial<Naming> = {}, router = 'gate.weight'): readonly Naming[] {
  return [
    mlpNaming({ block: 'block_sparse_moe.', experts: W1_W2_W3, ...more }),
    mlpNaming({ experts: W1_W2_W3, ...more, router: { ...more.router, weight: [router] } }),
  ]
}

/** IBM's fused linears, which JetMoE has too. */
export const FUSED_LINEARS: readonly ExpertLayout[] = [
  { kind: 'fused', gateUp: 'input_linear.weight', down: 'output_linear.weight', major: 'output' },
]

/** `[E, D, 2I]` and `[E, I, D]`. */
export const FUSED_INPUT_MAJOR: readonly ExpertLayout[] = [
  { kind: 'fused', gateUp: 'experts.gate_up_proj', down: 'experts.down_proj', major: 'input' },
]

/** A shared MLP below `stem`, as many experts wide as `field` says; absent: `default`, by the model's config class. */
export function sharedMlp(
  stem: string,
  field: string,
  more: Partial<SharedLayout> & { default?: number } = {},
): SharedLayout {
  const { default: fallback = 0, ...rest } = more
  return {
    count: (config, layer) => (config.isNull(field) ? 0 : config.integerOfLayer(field, layer, 0, fallback)),
    gate: `${stem}gate_proj`,
    up: `${stem}up_proj`,
    down: `${stem}down_proj`,
    ...rest,
  }
}

/** One shared expert, there when `field` (its width) is above 0; absent: `default`. */
export function sharedOfWidth(
  stem: string,
  field: string,
  more: Partial<SharedLayout> & { default?: number } = {},
): SharedLayout {
  const { default: fallback = 0, ...rest } = more
  return sharedMlp(stem, field, {
    count: config => (config.integer(field, 0, fallback) > 0 ? 1 : 0),
    ...rest,
  })
}

/** A required tensor. */
export function tensor(...names: string[]): NamedTensor {
  return { names }
}

/** A tensor of configs where `when` holds. */
export function tensorWhen(when: Condition, ...names: string[]): NamedTensor {
  return { names, when }
}

/** True where a flag is set. */
export function flag(field: string, fallback: boolean): Condition {
  return config => config.boolean(field, fallback)
}

/** The router of the encoder-decoder models. */
export const CLASSIFIER: Naming['router'] = {
  weight: ['router.classifier.weight'],
  bias: tensorWhen(flag('router_bias', false), 'router.classifier.bias'),
}

/** The names of most decoder-only models: `model.layers.{L}.mlp.gate.weight`, … */
export function mlpNaming(
  more: Partial<Omit<Naming, 'router'>> & { router?: Partial<Naming['router']> } = {},
): Naming {
  const { router, ...rest } = more
  return {
    layer: 'layers.{L}.',
    block: 'mlp.',
    experts: GATE_UP_DOWN,
    ...rest,
    router: { weight: ['gate.weight'], ...router },
  }
}
