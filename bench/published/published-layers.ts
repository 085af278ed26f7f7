/** One sparse layer each of published checkpoints, at its published sizes, in the form in which it was published: names, shapes and types. */

/** What a tensor is filled with: random codes, or scales and floats of a usual size. */
export type Fill = 'bytes' | 'e4m3' | 'e8m0' | 'f32' | 'bf16' | 'f16' | 'ggml'

export interface PublishedTensor {
  name: string
  dtype: string
  shape: readonly number[]
  fill: Fill
}

export interface PublishedLayer {
  name: string
  /** What `layer.weightFormat` is to say of the experts' up and down. */
  stored: readonly [up: string, down: string]
  layer: number
  hiddenSize: number
  tensors: readonly PublishedTensor[]
  /** config.json, or the metadata of a GGUF file. */
  config?: Readonly<Record<string, unknown>>
  metadata?: Readonly<Record<string, string | number | boolean>>
}

const tensor = (name: string, dtype: string, fill: Fill, ...shape: number[]): PublishedTensor => ({
  name,
  dtype,
  shape,
  fill,
})

/** `[out, in]` of gate, up and down. */
const projections = (intermediate: number, hidden: number) =>
  [
    ['gate_proj', intermediate, hidden],
    ['up_proj', intermediate, hidden],
    ['down_proj', hidden, intermediate],
  ] as const

function deepseekV3(numExperts: number, name: string, quantization: object, int4: boolean): PublishedLayer {
  const [hidden, intermediate] = [7168, 2048]
  const mlp = `${int4 ? 'language_model.' : ''}model.layers.1.mlp`
  const linear = (prefix: string, out: number, inputs: number): PublishedTensor[] =>
    int4
      ? [
          tensor(`${prefix}.weight_packed`, 'I32', 'bytes', out, inputs / 8),
          tensor(`${prefix}.weight_scale`, 'BF16', 'bf16', out, inputs / 32),
        ]
      : [
          tensor(`${prefix}.weight`, 'F8_E4M3', 'e4m3', out, inputs),
          tensor(`${prefix}.weight_scale_inv`, 'F32', 'f32', out / 128, inputs / 128),
        ]
  const experts = Array.from({ length: numExperts }, (_, e) =>
    projections(intermediate, hidden).flatMap(([part, out, inputs]) =>
      linear(`${mlp}.experts.${e}.${part}`, out, inputs),
    ),
  ).flat()
  const shared = projections(intermediate, hidden).flatMap(([part, out, inputs]) =>
    int4
      ? [tensor(`${mlp}.shared_experts.${part}.weight`, 'BF16', 'bf16', out, inputs)]
      : linear(`${mlp}.shared_experts.${part}`, out, inputs),
  )
  const config = {
    model_type: int4 ? 'kimi_k2' : 'deepseek_v3',
    torch_dtype: 'bfloat16',
    hidden_size: hidden,
    moe_intermediate_size: intermediate,
    n_routed_experts: numExperts,
    num_experts_per_tok: 8,
    n_shared_experts: 1,
    n_group: int4 ? 1 : 8,
    topk_group: int4 ? 1 : 4,
    norm_topk_prob: true,
    routed_scaling_factor: int4 ? 2.827 : 2.5,
    scoring_func: 'sigmoid',
    topk_method: 'noaux_tc',
    first_k_dense_replace: 1,
    moe_layer_freq: 1,
    num_hidden_layers: 61,
    hidden_act: 'silu',
    quantization_config: quantization,
  }
  return {
    name,
    stored: int4 ? ['int4 g32', 'int4 g32'] : ['fp8 128x128', 'fp8 128x128'],
    layer: 1,
    hiddenSize: hidden,
    config: int4 ? { model_type: 'kimi_k25', text_config: config } : config,
    tensors: [
      tensor(`${mlp}.gate.weight`, 'BF16', 'bf16', numExperts, hidden),
      tensor(`${mlp}.gate.e_score_correction_bias`, 'F32', 'f32', numExperts),
      ...experts,
      ...shared,
    ],
  }
}

const GROUP_INT4 = {
  quant_method: 'compressed-tensors',
  format: 'pack-quantized',
  ignore: ['re:.*shared_experts.*', 're:.*self_attn.*', 'lm_head'],
  config_groups: {
    group_0: {
      targets: ['Linear'],
      weights: { num_bits: 4, type: 'int', strategy: 'group', group_size: 32, symmetric: true },
    },
  },
}

function gptOss(): PublishedLayer {
  const [hidden, intermediate, numExperts] = [2880, 2880, 32]
  const mlp = 'model.layers.0.mlp'
  return {
    name: 'gpt-oss-20b mxfp4',
    stored: ['mxfp4', 'mxfp4'],
    layer: 0,
    hiddenSize: hidden,
    config: {
      model_type: 'gpt_oss',
      torch_dtype: 'bfloat16',
      hidden_size: hidden,
      intermediate_size: intermediate,
      num_local_experts: numExperts,
      num_experts_per_tok: 4,
      num_hidden_layers: 24,
      hidden_act: 'silu',
      swiglu_limit: 7,
      quantization_config: { quant_method: 'mxfp4' },
    },
    tensors: [
      tensor(`${mlp}.router.weight`, 'BF16', 'bf16', numExperts, hidden),
      tensor(`${mlp}.router.bias`, 'BF16', 'bf16', numExperts),
      tensor(
        `${mlp}.experts.gate_up_proj_blocks`,
        'U8',
        'bytes',
        numExperts,
        2 * intermediate,
        hidden / 32,
        16,
      ),
      tensor(`${mlp}.experts.gate_up_proj_scales`, 'U8', 'e8m0', numExperts, 2 * intermediate, hidden / 32),
      tensor(`${mlp}.experts.gate_up_proj_bias`, 'BF16', 'bf16', numExperts, 2 * intermediate),
      tensor(`${mlp}.experts.down_proj_blocks`, 'U8', 'bytes', numExperts, hidden, intermediate / 32, 16),
      tensor(`${mlp}.experts.down_proj_scales`, 'U8', 'e8m0', numExperts, hidden, intermediate / 32),
      tensor(`${mlp}.experts.down_proj_bias`, 'BF16', 'bf16', numExperts, hidden),
    ],
  }
}

const QWEN3 = { hidden: 2048, intermediate: 768, numExperts: 128 }

function qwen3(method: 'awq' | 'gptq'): PublishedLayer {
  const { hidden, intermediate, numExperts } = QWEN3
  const mlp = 'model.layers.0.mlp'
  const linear = (prefix: string, out: number, inputs: number): PublishedTensor[] => [
    method === 'awq'
      ? tensor(`${prefix}.qweight`, 'I32', 'bytes', inputs, out / 8)
      : tensor(`${prefix}.qweight`, 'I32', 'bytes', inputs / 8, out),
    tensor(`${prefix}.qzeros`, 'I32', 'bytes', inputs / 128, out / 8),
    tensor(`${prefix}.scales`, 'F16', 'f16', inputs / 128, out),
  ]
  return {
    name: `Qwen3-30B-A3B ${method}`,
    stored: [`${method} int4 g128`, `${method} int4 g128`],
    layer: 0,
    hiddenSize: hidden,
    config: {
      model_type: 'qwen3_moe',
      torch_dtype: 'bfloat16',
      hidden_size: hidden,
      moe_intermediate_size: intermediate,
      num_experts: numExperts,
      num_experts_per_tok: 8,
      norm_topk_prob: true,
      num_hidden_layers: 48,
      hidden_act: 'silu',
      quantization_config:
        method === 'awq'
          ? { quant_method: 'awq', bits: 4, group_size: 128, zero_point: true, version: 'gemm' }
          : { quant_method: 'gptq', bits: 4, group_size: 128, sym: false, desc_act: false },
    },
    tensors: [
      tensor(`${mlp}.gate.weight`, 'BF16', 'bf16', numExperts, hidden),
      ...Array.from({ length: numExperts }, (_, e) =>
        projections(intermediate, hidden).flatMap(([part, out, inputs]) =>
          linear(`${mlp}.experts.${e}.${part}`, out, inputs),
        ),
      ).flat(),
    ],
  }
}

function qwen3Gguf(name: string, up: string, down: string): PublishedLayer {
  const { hidden, intermediate, numExperts } = QWEN3
  const prefix = 'qwen3moe'
  return {
    name: `Qwen3-30B-A3B GGUF ${name}`,
    stored: [ggmlWord(up), ggmlWord(down)],
    layer: 0,
    hiddenSize: hidden,
    metadata: {
      'general.architecture': prefix,
      [`${prefix}.block_count`]: 48,
      [`${prefix}.embedding_length`]: hidden,
      [`${prefix}.expert_count`]: numExperts,
      [`${prefix}.expert_used_count`]: 8,
      [`${prefix}.expert_feed_forward_length`]: intermediate,
    },
    tensors: [
      tensor('blk.0.ffn_gate_inp.weight', 'F32', 'f32', numExperts, hidden),
      tensor('blk.0.ffn_gate_exps.weight', up, 'ggml', numExperts, intermediate, hidden),
      tensor('blk.0.ffn_up_exps.weight', up, 'ggml', numExperts, intermediate, hidden),
      tensor('blk.0.ffn_down_exps.weight', down, 'ggml', numExperts, hidden, intermediate),
    ],
  }
}

const ggmlWord = (type: string) => type.toLowerCase().replace(/_k$/, '_K')

export const PUBLISHED_LAYERS: readonly PublishedLayer[] = [
  qwen3('awq'),
  qwen3('gptq'),
  gptOss(),
  qwen3Gguf('Q4_K_M', 'Q4_K', 'Q6_K'),
  qwen3Gguf('Q8_0', 'Q8_0', 'Q8_0'),
  qwen3Gguf('MXFP4', 'MXFP4', 'MXFP4'),
  deepseekV3(
    256,
    'DeepSeek-V3 fp8',
    { quant_method: 'fp8', fmt: 'e4m3', weight_block_size: [128, 128], activation_scheme: 'dynamic' },
    false,
  ),
  deepseekV3(384, 'Kimi-K2.5 int4', GROUP_INT4, true),
]
