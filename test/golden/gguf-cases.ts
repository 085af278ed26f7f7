/**
 * Golden checkpoints as GGUF files: which architecture of llama.cpp each is, and the metadata that its converter writes for such a config
 * (conversion/*.py and gguf-py of ggml-org/llama.cpp, revision 00395eb). What a converter does not write is not here.
 */

import type { MoeConfig } from '../../lib/block/config.js'

type Value = number | boolean | string | readonly (number | boolean)[]
type Config = Readonly<Record<string, Value>>

export interface GgufCase {
  /** Of test/golden/cases. */
  golden: string
  architecture: string
  /** Keys without the architecture before them. */
  metadata: (config: Config) => Record<string, Value | undefined>
  /** Family where it is another row of the same arithmetic. */
  family?: string
  /** What no metadata states and the golden config has other than the published models. */
  config?: Partial<MoeConfig>
}

const SOFTMAX = 1
const SIGMOID = 2
const SOFTMAX_WEIGHT = 3
const SQRT_SOFTPLUS = 4

/** What the DeepSeek converter writes, which many others call. */
const deepseek = (config: Config) => ({
  leading_dense_block_count: config.first_k_dense_replace,
  expert_shared_count: config.n_shared_experts,
  expert_weights_scale: config.routed_scaling_factor,
  expert_weights_norm: config.norm_topk_prob,
})
const groups = (config: Config) => ({
  expert_group_count: config.n_group,
  expert_group_used_count: config.topk_group,
})
const noaux = (config: Config) => ({ ...deepseek(config), ...groups(config), expert_gating_func: SIGMOID })

const ofLayer = (list: Value | undefined, layer: number) => (list as number[])[layer]

const none = () => ({})

export const GGUF_CASES: readonly GgufCase[] = [
  {
    golden: 'afmoe',
    architecture: 'afmoe',
    metadata: config => ({
      expert_gating_func: SIGMOID,
      expert_shared_count: config.num_shared_experts,
      expert_weights_scale: config.route_scale,
      expert_weights_norm: config.route_norm,
      leading_dense_block_count: config.num_dense_layers,
    }),
  },
  {
    golden: 'bailing_moe',
    architecture: 'bailingmoe',
    metadata: config => ({
      expert_weights_scale: 1,
      expert_shared_count: config.num_shared_experts,
      expert_weights_norm: config.norm_topk_prob,
    }),
  },
  {
    golden: 'bailing_moe_v2',
    architecture: 'bailingmoe2',
    metadata: config => ({
      ...groups(config),
      expert_gating_func: SIGMOID,
      expert_shared_count: config.num_shared_experts,
      expert_weights_scale: config.routed_scaling_factor,
      expert_weights_norm: config.norm_topk_prob,
      nextn_predict_layers: 0,
    }),
  },
  {
    golden: 'cohere2_moe',
    architecture: 'cohere2moe',
    metadata: config => ({
      expert_gating_func: SIGMOID,
      expert_shared_count: config.num_shared_experts,
      expert_weights_norm: config.norm_topk_prob,
    }),
  },
  { golden: 'dbrx', architecture: 'dbrx', metadata: none },
  {
    golden: 'deepseek_v2_greedy',
    architecture: 'deepseek2',
    metadata: config => ({ ...deepseek(config), ...groups(config), expert_gating_func: SOFTMAX }),
  },
  {
    golden: 'deepseek_v2_group_limited',
    architecture: 'deepseek2',
    metadata: config => ({ ...deepseek(config), ...groups(config) }),
  },
  { golden: 'deepseek_v3', architecture: 'deepseek2', metadata: noaux },
  // Its groups are not stated and its number of experts is none that is known: it has none.
  {
    golden: 'kimi_k2',
    architecture: 'deepseek2',
    family: 'deepseek_v3',
    metadata: config => ({ ...deepseek(config), expert_gating_func: SIGMOID }),
  },
  // Files before its row did not state the gating function: the bias tells.
  { golden: 'glm4_moe_lite', architecture: 'deepseek2', family: 'deepseek_v3', metadata: deepseek },
  { golden: 'deepseek_v32', architecture: 'deepseek32', metadata: noaux },
  {
    golden: 'deepseek_v4',
    architecture: 'deepseek4',
    metadata: config => ({
      expert_gating_func: SQRT_SOFTPLUS,
      expert_shared_count: config.n_shared_experts,
      expert_weights_scale: config.routed_scaling_factor,
      expert_weights_norm: true,
      hash_layer_count: config.num_hash_layers,
      swiglu_clamp_exp: Array.from({ length: Number(config.num_hidden_layers) }, () =>
        Number(config.swiglu_limit),
      ),
    }),
  },
  {
    golden: 'deepseek_v4_hash',
    architecture: 'deepseek4',
    metadata: config => ({
      expert_gating_func: SQRT_SOFTPLUS,
      expert_shared_count: config.n_shared_experts,
      expert_weights_scale: config.routed_scaling_factor,
      expert_weights_norm: true,
      hash_layer_count: config.num_hash_layers,
      swiglu_clamp_exp: config.swiglu_limit,
      swiglu_clamp_shexp: config.swiglu_limit,
    }),
  },
  {
    golden: 'dots1',
    architecture: 'dots1',
    metadata: config => ({ ...deepseek(config), ...groups(config), expert_gating_func: SIGMOID }),
  },
  {
    golden: 'ernie4_5_moe',
    architecture: 'ernie4_5-moe',
    metadata: config => ({
      leading_dense_block_count: config.moe_layer_start_index,
      interleave_moe_layer_step: config.moe_layer_interval,
      expert_shared_count: config.moe_num_shared_experts,
      expert_shared_feed_forward_length:
        Number(config.moe_intermediate_size) * Number(config.moe_num_shared_experts),
    }),
    config: { normFloor: 0.3 },
  },
  {
    golden: 'exaone_moe',
    architecture: 'exaone-moe',
    metadata: config => ({
      ...groups(config),
      expert_gating_func: SIGMOID,
      expert_shared_count: config.num_shared_experts,
      expert_weights_scale: config.routed_scaling_factor,
      expert_weights_norm: config.norm_topk_prob,
    }),
  },
  { golden: 'gemma4', architecture: 'gemma4', metadata: none },
  { golden: 'glm4_moe', architecture: 'glm4moe', metadata: noaux },
  {
    golden: 'solar_open',
    architecture: 'glm4moe',
    family: 'glm4_moe',
    metadata: noaux,
  },
  { golden: 'glm_moe_dsa', architecture: 'glm-dsa', metadata: noaux },
  { golden: 'gpt_oss', architecture: 'gpt-oss', metadata: none },
  { golden: 'granitemoe', architecture: 'granitemoe', metadata: none },
  {
    golden: 'granitemoeshared',
    architecture: 'granitemoe',
    metadata: config => ({ expert_shared_feed_forward_length: config.shared_intermediate_size }),
    family: 'granitemoe',
  },
  {
    golden: 'granitemoehybrid',
    architecture: 'granitehybrid',
    metadata: config => ({ expert_shared_feed_forward_length: config.shared_intermediate_size }),
  },
  {
    golden: 'hunyuan_v1_moe',
    architecture: 'hunyuan-moe',
    metadata: config => ({
      expert_count: ofLayer(config.num_experts, 2),
      expert_used_count: ofLayer(config.moe_topk, 2),
      expert_shared_count: ofLayer(config.num_shared_expert, 2),
    }),
  },
  {
    golden: 'hy_v3',
    architecture: 'hy_v3',
    metadata: config => ({
      expert_gating_func: SIGMOID,
      expert_shared_count: config.num_shared_experts,
      expert_weights_norm: true,
      expert_weights_scale: config.router_scaling_factor,
    }),
  },
  { golden: 'jamba', architecture: 'jamba', metadata: none },
  {
    golden: 'kimi_linear',
    architecture: 'kimi-linear',
    metadata: config => ({
      expert_gating_func: SIGMOID,
      expert_shared_count: config.num_shared_experts,
      expert_weights_scale: config.routed_scaling_factor,
      expert_group_count: config.num_expert_group,
      expert_group_used_count: config.topk_group,
    }),
  },
  {
    golden: 'laguna',
    architecture: 'laguna',
    metadata: config => ({
      expert_gating_func: SIGMOID,
      expert_weights_scale: config.moe_routed_scaling_factor,
      expert_weights_norm: true,
      expert_shared_feed_forward_length: config.shared_expert_intermediate_size,
      router_logit_softcapping: config.moe_router_logit_softcapping,
    }),
  },
  {
    golden: 'lfm2_moe',
    architecture: 'lfm2moe',
    metadata: config => ({
      expert_gating_func: SIGMOID,
      leading_dense_block_count: config.num_dense_layers,
      expert_weights_scale: config.routed_scaling_factor,
    }),
  },
  {
    golden: 'llama4',
    architecture: 'llama4',
    metadata: config => ({
      interleave_moe_layer_step: config.interleave_moe_layer_step,
      expert_gating_func: SIGMOID,
    }),
  },
  { golden: 'mixtral', architecture: 'llama', metadata: none },
  {
    golden: 'mellum',
    architecture: 'mellum',
    metadata: () => ({ expert_weights_norm: true }),
  },
  {
    golden: 'mimo_v2_flash',
    architecture: 'mimo2',
    family: 'mimo_v2',
    metadata: config => ({
      ...groups(config),
      expert_gating_func: SIGMOID,
      expert_weights_scale: config.routed_scaling_factor ?? 0,
    }),
  },
  {
    golden: 'minimax_m2',
    architecture: 'minimax-m2',
    metadata: () => ({ expert_gating_func: SIGMOID }),
  },
  {
    golden: 'minimax_m3',
    architecture: 'minimax-m3',
    metadata: config => ({
      expert_gating_func: SIGMOID,
      expert_shared_count: config.n_shared_experts,
      expert_weights_scale: 2,
      expert_weights_norm: true,
      swiglu_clamp_exp: config.swiglu_limit,
    }),
  },
  {
    golden: 'mistral4',
    architecture: 'mistral4',
    metadata: config => ({ ...deepseek(config), ...groups(config), expert_gating_func: SOFTMAX }),
  },
  { golden: 'nemotron_h', architecture: 'nemotron_h_moe', metadata: noaux },
  {
    golden: 'nemotron_h_latent',
    architecture: 'nemotron_h_moe',
    metadata: config => ({ ...noaux(config), moe_latent_size: config.moe_latent_size }),
  },
  { golden: 'olmoe', architecture: 'olmoe', metadata: none },
  {
    golden: 'phimoe',
    architecture: 'phimoe',
    metadata: none,
    config: { sparsemixerEpsilon: 0.1 },
  },
  {
    golden: 'qwen2_moe',
    architecture: 'qwen2moe',
    metadata: config => ({ expert_shared_feed_forward_length: config.shared_expert_intermediate_size }),
  },
  {
    golden: 'qwen3_5_moe_per_expert',
    architecture: 'qwen35moe',
    metadata: config => ({ expert_shared_feed_forward_length: config.shared_expert_intermediate_size }),
  },
  { golden: 'qwen3_moe', architecture: 'qwen3moe', metadata: none },
  {
    golden: 'qwen3_next',
    architecture: 'qwen3next',
    metadata: config => ({ expert_shared_feed_forward_length: config.shared_expert_intermediate_size }),
  },
  { golden: 'qwen3_vl_moe', architecture: 'qwen3vlmoe', metadata: none },
  {
    golden: 'step3p5',
    architecture: 'step35',
    metadata: config => ({
      expert_gating_func: SIGMOID,
      expert_weights_scale: config.moe_router_scaling_factor,
      expert_weights_norm: config.norm_expert_weight,
      expert_shared_feed_forward_length: config.share_expert_dim,
      swiglu_clamp_exp: config.swiglu_limits,
      swiglu_clamp_shexp: config.swiglu_limits_shared,
    }),
  },
  {
    golden: 'step3p5_no_limit',
    architecture: 'step35',
    metadata: config => ({
      expert_weights_scale: config.moe_router_scaling_factor,
      expert_weights_norm: config.norm_expert_weight,
      expert_shared_feed_forward_length: config.share_expert_dim,
      swiglu_clamp_exp: config.swiglu_limits,
      swiglu_clamp_shexp: config.swiglu_limits_shared,
    }),
  },
  // Stated although the code of the architecture has it.
  {
    golden: 'gpt_oss_square',
    architecture: 'gpt-oss',
    metadata: () => ({ expert_gating_func: SOFTMAX_WEIGHT }),
  },
]
