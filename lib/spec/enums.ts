/** Generated from spec/enums.json by tools/build/spec.mjs: do not edit. */

/** What a matrix stores for each weight. Only the float codes are values by themselves. */
export const MATRIX_CODES = ['f32', 'f16', 'bf16', 'u2', 'u3', 'u4', 'u5', 'u6', 'i8', 'e4m3'] as const
export type MatrixCode = (typeof MATRIX_CODES)[number]

/** Bits of one code. */
export const MATRIX_CODE_BITS: Readonly<Record<MatrixCode, number>> = {
  f32: 32,
  f16: 16,
  bf16: 16,
  u2: 2,
  u3: 3,
  u4: 4,
  u5: 5,
  u6: 6,
  i8: 8,
  e4m3: 8,
}

/** What becomes of router logits: what experts are selected by, and what weighs them. */
export const SCORING_FUNCS = [
  'softmax',
  'sigmoid',
  'sqrtsoftplus',
  'topk_softmax',
  'topk_sigmoid',
  'sparsemixer',
] as const
export type ScoringFunc = (typeof SCORING_FUNCS)[number]

/** Scores over all router outputs come first: groups, a selection bias and hash routing may follow. */
export const SCORED_FUNCS = ['softmax', 'sigmoid', 'sqrtsoftplus'] as const
export type ScoredFunc = (typeof SCORED_FUNCS)[number]

/** Whether {@link SCORED_FUNCS} has it. */
export const isScored = (scoringFunc: ScoringFunc): scoringFunc is ScoredFunc =>
  (SCORED_FUNCS as readonly string[]).includes(scoringFunc)

/** What the command line says of a scoring function. */
export const SCORING_WORDS: Readonly<Record<ScoringFunc, string>> = {
  softmax: 'softmax over all experts',
  sigmoid: 'sigmoid per expert',
  sqrtsoftplus: 'square root of softplus per expert',
  topk_softmax: 'softmax over the selected logits',
  topk_sigmoid: 'sigmoid of the selected logits',
  sparsemixer: 'sparsemixer (two rounds of thresholded softmax)',
}

/** What a group of experts is ranked by, and what its experts rank with where it is left out. */
export const GROUP_SCORES = ['max', 'top2_sum', 'top2_sum_zeroed'] as const
export type GroupScore = (typeof GROUP_SCORES)[number]

/** What the selected weights are divided by. */
export const NORMALIZATIONS = ['none', 'sum', 'floor', 'p'] as const
export type NormalizationKind = (typeof NORMALIZATIONS)[number]

/** How many tokens an expert may take. */
export const CAPACITIES = ['per_sequence', 'batch'] as const
export type CapacityKind = (typeof CAPACITIES)[number]

/** Activation of an expert's intermediate values. */
export const ACTIVATIONS = ['silu', 'gelu', 'gelu_pytorch_tanh', 'relu', 'relu2', 'identity', 'situ'] as const
export type Activation = (typeof ACTIVATIONS)[number]

/** How the shared expert joins the routed sum. */
export const SHARED_GATES = ['plain', 'sigmoid', 'mix'] as const
export type SharedGate = (typeof SHARED_GATES)[number]
