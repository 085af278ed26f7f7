/**
 * `general.architecture` of a GGUF file, and the family's row that has its arithmetic. Metadata states little of a routing rule: what it
 * does not state is in llama.cpp's code by the name of the architecture, and here in the row. A row says under which fields of its config the
 * family has what metadata may state.
 */

/** `expert_gating_func`. */
export type Gating = 1 | 2 | 3 | 4

/** What an architecture is. */
export interface Architecture {
  /** `model_type` of the row. */
  modelType: string
  /** What the gating function must be where it is stated, or the field that it goes to and the default. */
  gating: readonly Gating[] | { field: string; names: Partial<Record<Gating, string>>; default: Gating }
  /** Field of `expert_weights_norm`; or what the model always does. Absent: nothing of the kind. */
  norm?: string | boolean
  /** Field of `expert_weights_scale`. */
  scale?: string
  /** Fields of `expert_group_count` and `expert_group_used_count`. */
  groups?: readonly [count: string, kept: string]
  /** Field with the number of shared experts, or with their width. */
  shared?: { count: string } | { width: string }
  /** Where limits of the activation go: one number of all layers, or lists. */
  limits?: { field: string } | { lists: readonly [experts: string, shared: string] }
  /** Field of `router_logit_softcapping`. */
  softcap?: string
  /** Field that says whether there is a selection bias: whether its tensor is there. */
  selectionBias?: string
  /** Fields that no metadata states. */
  always?: Readonly<Record<string, unknown>>
}

const SOFTMAX: readonly Gating[] = [1]
const SIGMOID: readonly Gating[] = [2]
const NORM = 'norm_topk_prob'
const SCALE = 'routed_scaling_factor'

/** DeepSeek-V3's block under its own field names. */
const NOAUX_TC = {
  gating: SIGMOID,
  norm: NORM,
  scale: SCALE,
  groups: ['n_group', 'topk_group'],
  shared: { count: 'n_shared_experts' },
} as const satisfies Partial<Architecture>

const QWEN_SHARED = { width: 'shared_expert_intermediate_size' }
const NUM_SHARED = { count: 'num_shared_experts' }

const deepseekV3 = (modelType: string): Architecture => ({ modelType, ...NOAUX_TC })

const DEEPSEEK_V2: Architecture = {
  modelType: 'deepseek_v2',
  gating: { field: 'scoring_func', names: { 1: 'softmax', 2: 'sigmoid' }, default: 1 },
  norm: NORM,
  scale: SCALE,
  groups: ['n_group', 'topk_group'],
  shared: { count: 'n_shared_experts' },
}

/** What tells the models of one architecture apart. */
export interface ArchitectureFacts {
  /** As stated. */
  gating: Gating | undefined
  /** Any layer has a selection bias. */
  hasSelectionBias: boolean
}

/** DeepSeek-V2 and V3, Kimi-K2 and GLM-4.7-Flash: old files do not state that scores are sigmoids, and have the bias all the same. */
function deepseek2({ gating, hasSelectionBias }: ArchitectureFacts): Architecture {
  const isSigmoid = gating === undefined ? hasSelectionBias : gating === 2
  return isSigmoid ? deepseekV3('deepseek_v3') : DEEPSEEK_V2
}

type Row = Architecture | ((facts: ArchitectureFacts) => Architecture)

const ROWS = {
  afmoe: {
    modelType: 'afmoe',
    gating: SIGMOID,
    norm: 'route_norm',
    scale: 'route_scale',
    shared: NUM_SHARED,
  },
  bailingmoe: { modelType: 'bailing_moe', gating: SOFTMAX, norm: NORM, shared: NUM_SHARED },
  bailingmoe2: { ...deepseekV3('bailing_moe_v2'), shared: NUM_SHARED },
  cohere2moe: {
    modelType: 'cohere2_moe',
    gating: {
      field: 'expert_selection_fn',
      names: { 1: 'softmax', 2: 'sigmoid', 3: 'softmax' },
      default: 1,
    },
    norm: NORM,
    shared: NUM_SHARED,
  },
  dbrx: { modelType: 'dbrx', gating: SOFTMAX, norm: true },
  deepseek: { ...DEEPSEEK_V2, modelType: 'deepseek' },
  deepseek2,
  'deepseek2-ocr': deepseek2,
  deepseek32: deepseekV3('deepseek_v32'),
  deepseek4: {
    modelType: 'deepseek_v4',
    gating: { field: 'scoring_func', names: { 2: 'sigmoid', 4: 'sqrtsoftplus' }, default: 4 },
    norm: NORM,
    scale: SCALE,
    shared: { count: 'n_shared_experts' },
    limits: { field: 'swiglu_limit' },
  },
  dots1: deepseekV3('dots1'),
  'ernie4_5-moe': {
    modelType: 'ernie4_5_moe',
    gating: SOFTMAX,
    norm: true,
    shared: { count: 'moe_num_shared_experts' },
  },
  'exaone-moe': { ...deepseekV3('exaone_moe'), shared: NUM_SHARED },
  gemma4: { modelType: 'gemma4', gating: SOFTMAX, norm: true, always: { enable_moe_block: true } },
  glm4moe: deepseekV3('glm4_moe'),
  'glm-dsa': deepseekV3('glm_moe_dsa'),
  'gpt-oss': { modelType: 'gpt_oss', gating: [3], limits: { field: 'swiglu_limit' } },
  // Softmax over all, renormalised, is softmax over the selected.
  granitehybrid: {
    modelType: 'granitemoehybrid',
    gating: [1, 3],
    norm: true,
    shared: { width: 'shared_intermediate_size' },
  },
  granitemoe: {
    modelType: 'granitemoe',
    gating: [1, 3],
    norm: true,
    shared: { width: 'shared_intermediate_size' },
  },
  'hunyuan-moe': {
    modelType: 'hunyuan_v1_moe',
    gating: SOFTMAX,
    norm: true,
    shared: { count: 'num_shared_expert' },
  },
  hy_v3: {
    modelType: 'hy_v3',
    gating: SIGMOID,
    norm: 'route_norm',
    scale: 'router_scaling_factor',
    shared: NUM_SHARED,
  },
  jamba: { modelType: 'jamba', gating: SOFTMAX, norm: false },
  'kimi-linear': {
    modelType: 'kimi_linear',
    gating: SIGMOID,
    norm: 'moe_renormalize',
    scale: SCALE,
    groups: ['num_expert_group', 'topk_group'],
    shared: NUM_SHARED,
  },
  laguna: {
    modelType: 'laguna',
    gating: SIGMOID,
    norm: NORM,
    scale: 'moe_routed_scaling_factor',
    shared: QWEN_SHARED,
    softcap: 'moe_router_logit_softcapping',
  },
  lfm2moe: {
    modelType: 'lfm2_moe',
    gating: SIGMOID,
    norm: NORM,
    scale: SCALE,
    selectionBias: 'use_expert_bias',
  },
  llama: { modelType: 'mixtral', gating: SOFTMAX, norm: true },
  llama4: { modelType: 'llama4', gating: SIGMOID, norm: false },
  mellum: { modelType: 'mellum', gating: SOFTMAX, norm: NORM },
  mimo2: { modelType: 'mimo_v2', gating: SIGMOID, norm: NORM, scale: SCALE, groups: NOAUX_TC.groups },
  'minimax-m2': { modelType: 'minimax_m2', gating: SIGMOID, norm: true },
  'minimax-m3': {
    modelType: 'minimax_m3_vl',
    gating: SIGMOID,
    norm: true,
    scale: SCALE,
    shared: { count: 'n_shared_experts' },
    limits: { field: 'swiglu_limit' },
  },
  mistral4: { ...deepseekV3('mistral4'), gating: SOFTMAX },
  nemotron_h_moe: deepseekV3('nemotron_h'),
  olmoe: { modelType: 'olmoe', gating: SOFTMAX, norm: NORM },
  // llama.cpp takes softmax for sparsemixer; here the model's own rule is computed.
  phimoe: { modelType: 'phimoe', gating: SOFTMAX },
  qwen2moe: { modelType: 'qwen2_moe', gating: SOFTMAX, norm: NORM, shared: QWEN_SHARED },
  qwen35moe: { modelType: 'qwen3_5_moe', gating: SOFTMAX, norm: true, shared: QWEN_SHARED },
  qwen3moe: { modelType: 'qwen3_moe', gating: SOFTMAX, norm: NORM, always: { [NORM]: true } },
  qwen3next: { modelType: 'qwen3_next', gating: SOFTMAX, norm: NORM, shared: QWEN_SHARED },
  qwen3vlmoe: { modelType: 'qwen3_vl_moe', gating: SOFTMAX, norm: true },
  step35: {
    modelType: 'step3p5',
    gating: { field: 'moe_router_activation', names: { 1: 'softmax', 2: 'sigmoid' }, default: 2 },
    norm: 'norm_expert_weight',
    scale: 'moe_router_scaling_factor',
    shared: { width: 'share_expert_dim' },
    limits: { lists: ['swiglu_limits', 'swiglu_limits_shared'] },
    selectionBias: 'use_moe_router_bias',
  },
} as const satisfies Readonly<Record<string, Row>>

/** Every architecture that is read. */
export const ARCHITECTURES: readonly string[] = Object.keys(ROWS)

/** What an architecture is; undefined where it is none of {@link ARCHITECTURES}. */
export function architectureOf(name: string, facts: ArchitectureFacts): Architecture | undefined {
  const row: Row | undefined = Object.hasOwn(ROWS, name) ? ROWS[name as keyof typeof ROWS] : undefined
  return typeof row === 'function' ? row(facts) : row
}

/** The model types that an architecture's files can be. */
export function modelTypesOf(name: string): readonly string[] {
  const facts: ArchitectureFacts[] = [
    { gating: 1, hasSelectionBias: false },
    { gating: 2, hasSelectionBias: true },
  ]
  return [...new Set(facts.flatMap(fact => architectureOf(name, fact)?.modelType ?? []))]
}

const REASONS: Readonly<Record<string, string>> = {
  arctic: 'its experts have a norm of their own, and a dense MLP stands beside them',
  clip: 'it is the part of a model for images: give the file of its language model',
  grovemoe: 'its experts share smaller ones in groups',
  smallthinker: 'its router reads the input of the attention',
}

/** Why an architecture is not read; undefined where nothing is known of it. */
export function refusedArchitecture(name: string): string | undefined {
  return Object.hasOwn(REASONS, name) ? REASONS[name] : undefined
}
