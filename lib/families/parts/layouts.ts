/** Tensor names that several families share. */

import type { Condition, ExpertLayout, NamedTensor, Naming, SharedLayout } from './family.js'

/** `experts.{e}.gate_proj` and so on, or the same fused by a library that saves its in-memory layout. */
export const GATE_UP_DOWN: readonly ExpertLayout[] = [
  {
    kind: 'perExpert',
    gate: 'experts.{e}.gate_proj',
    up: 'experts.{e}.up_proj',
    down: 'experts.{e}.down_proj',
  },
  { kind: 'fused', gateUp: 'experts.gate_up_proj', down: 'experts.down_proj', major: 'output' },
]

/** w1 gate, w2 down, w3 up. */
export const W1_W2_W3: readonly ExpertLayout[] = [
  { kind: 'perExpert', gate: 'experts.{e}.w1', up: 'experts.{e}.w3', down: 'experts.{e}.w2' },
  { kind: 'fused', gateUp: 'experts.gate_up_proj', down: 'experts.down_proj', major: 'output' },
]

/** Mixtral's names. */
export const BLOCK_SPARSE = { block: 'block_sparse_moe.', experts: W1_W2_W3 }

/** IBM's fused linears, which JetMoE has too. */
export const FUSED_LINEARS: readonly ExpertLayout[] = [
  { kind: 'fused', gateUp: 'input_linear.weight', down: 'output_linear.weight', major: 'output' },
]

/** `[E, D, 2I]` and `[E, I, D]`, or one tensor per expert and projection. */
export const FUSED_INPUT_MAJOR: readonly ExpertLayout[] = [
  { kind: 'fused', gateUp: 'experts.gate_up_proj', down: 'experts.down_proj', major: 'input' },
  GATE_UP_DOWN[0]!,
]

/** A shared MLP below `stem`, as many experts wide as `field` says (absent: none). */
export function sharedMlp(stem: string, field: string, more: Partial<SharedLayout> = {}): SharedLayout {
  return {
    count: (config, layer) => config.integerOfLayer(field, layer, 0, 0),
    gate: `${stem}gate_proj`,
    up: `${stem}up_proj`,
    down: `${stem}down_proj`,
    ...more,
  }
}

/** One shared expert, there when `field` (its width) is above 0. */
export function sharedOfWidth(stem: string, field: string, more: Partial<SharedLayout> = {}): SharedLayout {
  return sharedMlp(stem, field, { count: config => (config.integer(field, 0, 0) > 0 ? 1 : 0), ...more })
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
    layer: 'model.layers.{L}.',
    block: 'mlp.',
    experts: GATE_UP_DOWN,
    ...rest,
    router: { weight: ['gate.weight'], ...router },
  }
}
