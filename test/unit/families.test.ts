/** The table of families: every model type, which layers are sparse, and the rules that need arithmetic. */

import { describe, expect, it } from 'vitest'
import { resolveRouting } from '../../lib/block/resolve.js'
import { FAMILIES, knownModelTypes, resolveFamily } from '../../lib/families/index.js'
import { readActivation } from '../../lib/families/parts/activation.js'
import { ConfigReader } from '../../lib/families/parts/config-reader.js'

const FILE = 'config.json'

const row = (modelType: string) => resolveFamily({ model_type: modelType }, FILE).row
const reader = (config: Record<string, unknown>) => new ConfigReader(config, FILE)

/** The sparse layers among the first `count` of a stack. */
function sparseLayers(
  modelType: string,
  count: number,
  config: Record<string, unknown>,
  stack = 0,
): number[] {
  const { sparse } = row(modelType).stacks[stack]!
  return Array.from({ length: count }, (_, layer) => layer).filter(layer => sparse(reader(config), layer))
}

function routing(modelType: string, config: Record<string, unknown>, numExperts = 8, topK = 2, layer = 0) {
  return resolveRouting(row(modelType).routing(reader(config), { numExperts, topK }, layer))
}

describe('model types', () => {
  it('cover every published family, each once', () => {
    const types = knownModelTypes()
    expect(new Set(types).size).toBe(FAMILIES.flatMap(({ modelTypes }) => modelTypes).length)
    expect(types).toEqual(
      expect.arrayContaining(
        `deepseek_v2 deepseek_v3 deepseek_v32 deepseek_v4 kimi_k2 kimi_linear glm4_moe glm4_moe_lite glm_moe_dsa glm4v_moe dots1
         solar_open exaone_moe afmoe hy_v3 laguna minimax_m2 lfm2_moe bailing_moe bailing_moe_v2 llada2_moe nemotron_h mixtral minimax
         minimax_text_01 minimax_m1 qwen2_moe qwen3_moe qwen3_next qwen3_5_moe qwen3_vl_moe qwen3_omni_moe olmoe flex_olmo
         ernie4_5_moe hunyuan_v1_moe jamba dbrx granitemoe granitemoeshared granitemoehybrid jetmoe phimoe llama4 gpt_oss
         openai_privacy_filter gemma4 mistral4 longcat_flash aria switch_transformers nllb-moe`.split(/\s+/),
      ),
    )
  })

  it('may be nested, and the nested one decides', () => {
    const nested = (outer: string, inner?: string) => {
      const found = resolveFamily({ model_type: outer, text_config: { model_type: inner, x: 1 } }, FILE)
      return [found.modelType, found.config.raw('x')]
    }
    expect(nested('qwen3_vl_moe', 'qwen3_vl_moe_text')).toEqual(['qwen3_vl_moe', 1])
    expect(nested('mistral3', 'mistral4')).toEqual(['mistral4', 1])
    expect(nested('aria', 'unknown')).toEqual(['aria', 1])
    expect(nested('aria')).toEqual(['aria', 1])
    const omni = {
      model_type: 'qwen3_omni_moe',
      thinker_config: { text_config: { x: 2 } },
      talker_config: {},
    }
    expect(resolveFamily(omni, FILE).config.raw('x')).toBe(2)
  })

  it('that are unknown come with those near them', () => {
    const failure = (modelType: unknown) => {
      try {
        return resolveFamily({ model_type: modelType }, FILE)
      } catch (error) {
        return error
      }
    }
    expect(failure('deepseek_v5')).toMatchObject({
      code: 'ERR_MOE_UNSUPPORTED_FAMILY',
      message: expect.stringMatching(/deepseek_v5.*deepseek_v3/),
    })
    expect(failure('Mixtral')).toMatchObject({ message: expect.stringContaining('mixtral') })
    expect(failure('bert')).toMatchObject({ code: 'ERR_MOE_UNSUPPORTED_FAMILY', details: { near: [] } })
    expect(failure('__proto__')).toMatchObject({ code: 'ERR_MOE_UNSUPPORTED_FAMILY' })
    expect(failure(undefined)).toMatchObject({ code: 'ERR_MOE_INVALID_CONFIG' })
    expect(failure(3)).toMatchObject({ code: 'ERR_MOE_INVALID_CONFIG' })
  })

  it.each([
    ['ernie4_5_vl_moe', /two sets of experts/],
    ['ernie4_5_moe_vl', /two sets of experts/],
    ['zaya1', /state that passes from layer to layer/],
    ['zaya1_vl', /state that passes from layer to layer/],
  ])('refuses %s by name, with the reason', (modelType, reason) => {
    for (const config of [
      { model_type: modelType },
      { model_type: 'wrapper', text_config: { model_type: modelType } },
      // A part that would load by itself does not make the whole loadable.
      { model_type: modelType, text_config: { model_type: 'ernie4_5_moe' } },
    ]) {
      expect(() => resolveFamily(config, FILE)).toThrow(
        expect.objectContaining({
          code: 'ERR_MOE_UNSUPPORTED_FAMILY',
          message: expect.stringMatching(reason),
        }),
      )
    }
  })

  it('knows models whose language model is a covered one, whatever wraps it', () => {
    const nested = { model_type: 'intern_s2_preview', text_config: { model_type: 'qwen3_5_moe_text' } }
    expect(resolveFamily(nested, FILE)).toMatchObject({ modelType: 'qwen3_5_moe', path: ['text_config'] })
    expect(resolveFamily({ model_type: 'grinmoe' }, FILE).row.modelTypes).toContain('phimoe')
    expect(resolveFamily({ model_type: 'sdar_moe' }, FILE).row.modelTypes).toContain('qwen3_moe')
  })
})

describe('sparse layers', () => {
  it.each<[string, number, Record<string, unknown>, number[]]>([
    ['deepseek_v3', 5, { first_k_dense_replace: 3 }, [3, 4]],
    ['deepseek_v2', 7, { first_k_dense_replace: 1, moe_layer_freq: 2 }, [2, 4, 6]],
    ['mixtral', 3, {}, [0, 1, 2]],
    ['glm4_moe_lite', 3, {}, [1, 2]],
    ['glm_moe_dsa', 5, {}, [3, 4]],
    ['glm_moe_dsa', 3, { mlp_layer_types: ['sparse', 'dense', 'sparse'] }, [0, 2]],
    ['hy_v3', 3, {}, [1, 2]],
    ['laguna', 3, {}, [1, 2]],
    ['exaone_moe', 4, { first_k_dense_replace: 2 }, [2, 3]],
    ['afmoe', 4, { num_dense_layers: 2 }, [2, 3]],
    ['qwen2_moe', 6, { decoder_sparse_step: 2, mlp_only_layers: [3] }, [1, 5]],
    ['qwen3_moe', 3, {}, [0, 1, 2]],
    ['ernie4_5_moe', 8, { moe_layer_start_index: 2, moe_layer_end_index: 6, moe_layer_interval: 2 }, [3, 5]],
    ['ernie4_5_moe', 4, { moe_layer_start_index: 1, moe_layer_end_index: -1 }, [1, 2, 3]],
    ['jamba', 6, { expert_layer_period: 2, expert_layer_offset: 1 }, [1, 3, 5]],
    ['llama4', 5, { interleave_moe_layer_step: 2 }, [1, 3]],
    ['llama4', 3, { interleave_moe_layer_step: 1 }, [0, 1, 2]],
    ['llama4', 5, { moe_layers: [0, 4], interleave_moe_layer_step: 2 }, [0, 4]],
    ['nemotron_h', 5, { hybrid_override_pattern: 'ME*EM' }, [1, 3]],
    ['nemotron_h', 3, { layers_block_type: ['mamba', 'moe', 'attention'] }, [1]],
    ['glm4_moe', 3, {}, [1, 2]],
    ['lfm2_moe', 4, {}, [2, 3]],
    ['afmoe', 3, {}, [1, 2]],
    ['ernie4_5_moe', 3, {}, [1, 2]],
    ['deepseek_v3', 5, {}, [3, 4]],
    ['bailing_moe', 3, {}, [0, 1, 2]],
    ['bailing_moe_v2', 3, {}, [1, 2]],
    ['jamba', 4, {}, [1, 3]],
    ['jamba', 4, { num_experts: 1 }, []],
    ['laguna', 5, { mlp_only_layers: [0, 3] }, [1, 2, 4]],
    ['laguna', 3, { mlp_only_layers: [] }, [0, 1, 2]],
    ['mixtral', 4, { mlp_only_layers: [2] }, [0, 1, 3]],
    ['mixtral', 6, { decoder_sparse_step: 3 }, [2, 5]],
    ['deepseek_v3', 4, { moe_layer_freq: [0, 1, 0, 1] }, [1, 3]],
    ['deepseek_v3', 7, { moe_layer_freq: 2, first_k_dense_replace: 1 }, [2, 4, 6]],
    ['glm4_moe', 4, { moe_layer_freq: 2, first_k_dense_replace: 1 }, [2]],
    ['exaone_moe', 4, { is_moe_layer: [false, true, false, true] }, [1, 3]],
    ['exaone_moe', 3, { mlp_layer_types: ['sparse', 'dense', 'sparse'], first_k_dense_replace: 2 }, [0, 2]],
    ['minimax_m2', 4, { moe_layers_enum: '1,3' }, [1, 3]],
    ['step3p5', 4, { moe_layers_enum: [1, 3] }, [1, 3]],
    ['step3p5', 3, {}, [1, 2]],
    ['hunyuan_v1_moe', 3, { num_experts: 4, moe_layer_num_skipped: 1 }, [1, 2]],
    ['hunyuan_v1_moe', 3, { num_experts: [1, 4, 4] }, [1, 2]],
    ['gemma4', 2, {}, []],
    ['gemma4', 2, { enable_moe_block: true }, [0, 1]],
    ['switch_transformers', 12, { num_layers: 12, num_sparse_encoder_layers: 3 }, [1, 5, 9]],
    ['switch_transformers', 3, { num_layers: 3, num_sparse_encoder_layers: 3 }, [0, 1, 2]],
    ['switch_transformers', 3, { num_layers: 3, num_sparse_encoder_layers: 0 }, []],
    ['nllb-moe', 8, { encoder_sparse_step: 4 }, [3, 7]],
    ['nllb-moe', 8, { encoder_sparse_step: 0 }, []],
  ])('of %s: %#', (modelType, count, config, expected) => {
    expect(sparseLayers(modelType, count, config)).toEqual(expected)
  })

  it('of the decoder of an encoder-decoder model', () => {
    expect(sparseLayers('nllb-moe', 4, { decoder_sparse_step: 2 }, 1)).toEqual([1, 3])
    const config = { num_decoder_layers: 4, num_sparse_decoder_layers: 2 }
    expect(sparseLayers('switch_transformers', 4, config, 1)).toEqual([1, 3])
  })

  it('must be listed for every layer, with known names', () => {
    expect(() => sparseLayers('glm_moe_dsa', 3, { mlp_layer_types: ['dense'] })).toThrow(
      /no entry for layer 1/,
    )
    expect(() => sparseLayers('deepseek_v3', 3, { moe_layer_freq: [0, 1] })).toThrow(/no entry for layer 2/)
    expect(() => sparseLayers('deepseek_v3', 1, { moe_layer_freq: [2] })).toThrow(/list of 1 and 0/)
    expect(() => sparseLayers('glm_moe_dsa', 1, { mlp_layer_types: ['spares'] })).toThrow(
      /unknown value 'spares'/,
    )
  })
})

describe('routing', () => {
  it('of deepseek_v2 scores groups by their maximum and never renormalises', () => {
    const config = {
      topk_method: 'group_limited_greedy',
      n_group: 4,
      topk_group: 2,
      routed_scaling_factor: 16,
    }
    expect(routing('deepseek_v2', config)).toMatchObject({
      scoringFunc: 'softmax',
      groupScore: 'max',
      numExpertGroups: 4,
      topkGroup: 2,
      normTopkProb: false,
      routedScalingFactor: 16,
    })
    expect(routing('deepseek_v2', { topk_method: 'greedy', n_group: 4, topk_group: 2 })).toMatchObject({
      numExpertGroups: 1,
    })
    expect(() => routing('deepseek_v2', { topk_method: 'learned' })).toThrow(/topk_method/)
    expect(routing('deepseek_v2', {})).toMatchObject({ numExpertGroups: 1, routedScalingFactor: 1 })
  })

  it('of DeepSeek-VL2 is deepseek_v2 with sigmoid and selection bias, renormalised, then scaled', () => {
    const vl2 = {
      scoring_func: 'sigmoid',
      topk_method: 'noaux_tc',
      norm_topk_prob: true,
      n_group: 1,
      topk_group: 1,
    }
    expect(routing('deepseek_v2', { ...vl2, routed_scaling_factor: 2 })).toMatchObject({
      scoringFunc: 'sigmoid',
      normTopkProb: true,
      normValue: 1e-20,
      routedScalingFactor: 2,
    })
    expect(routing('deepseek_v2', { ...vl2, n_group: 4, topk_group: 2 })).toMatchObject({
      numExpertGroups: 4,
      topkGroup: 2,
      groupScore: 'top2_sum_zeroed',
    })
  })

  it('of kimi_linear and bailing_moe_v2 renormalises only above one expert', () => {
    const kimi = { moe_renormalize: true, routed_scaling_factor: 2 }
    expect(routing('kimi_linear', kimi, 8, 1).normTopkProb).toBe(false)
    expect(routing('kimi_linear', kimi, 8, 2)).toMatchObject({ normalization: 'sum', normValue: 1e-20 })
    expect(routing('bailing_moe_v2', { routed_scaling_factor: 2, n_group: 1 }, 8, 1).normTopkProb).toBe(false)
  })

  it('of laguna folds the factor of the routed sum into the weights', () => {
    const config = { moe_routed_scaling_factor: 2.5, moe_router_logit_softcapping: 3 }
    expect(routing('laguna', config)).toMatchObject({
      routedScalingFactor: 2.5,
      logitSoftcap: 3,
      normValue: 0,
    })
    expect(routing('laguna', {})).toMatchObject({ routedScalingFactor: 1, logitSoftcap: 0 })
  })

  it('of ernie, lfm2, qwen, dbrx differs in the renormalisation only', () => {
    expect(routing('ernie4_5_moe', {})).toMatchObject({ normalization: 'floor', normValue: 1e-12 })
    const lfm2 = { norm_topk_prob: true, routed_scaling_factor: 1 }
    expect(routing('lfm2_moe', lfm2)).toMatchObject({ normalization: 'sum', normValue: 1e-6 })
    expect(routing('qwen2_moe', {})).toMatchObject({ normTopkProb: false })
    expect(routing('qwen3_vl_moe', { norm_topk_prob: false })).toMatchObject({ normTopkProb: true })
    const dbrx = (value: unknown) => routing('dbrx', { ffn_config: { moe_normalize_expert_weights: value } })
    expect(dbrx(2)).toMatchObject({ normalization: 'p', normValue: 2 })
    expect(dbrx(null)).toMatchObject({ normTopkProb: false })
    expect(dbrx(undefined)).toMatchObject({ normalization: 'p', normValue: 1 })
  })

  it('of deepseek_v4 takes the ids of the first layers from a table', () => {
    const config = { routed_scaling_factor: 1.5, num_hash_layers: 2 }
    const hashed = (layer: number, more = {}) =>
      routing('deepseek_v4', { ...config, ...more }, 8, 2, layer).hashRouted
    expect([hashed(0), hashed(1), hashed(2)]).toEqual([true, true, false])
    const mlp_layer_types = ['moe', 'hash_moe']
    expect([hashed(0, { mlp_layer_types }), hashed(1, { mlp_layer_types })]).toEqual([false, true])
  })

  it('of nllb folds the evaluation-time factor into the weights and floors at the epsilon of the router', () => {
    const nllb = { moe_token_dropout: 0.2, router_dtype: 'float32', moe_eval_capacity_token_fraction: -1 }
    const resolved = routing('nllb-moe', nllb)
    expect(resolved).toMatchObject({ normalization: 'floor', normValue: 2 ** -23, routedScalingFactor: 0.8 })
    expect(resolved.capacity).toMatchObject({ kind: 'batch', expertCapacity: 64, tokenFraction: 0 })
    const unlimited = routing('nllb-moe', { ...nllb, expert_capacity: null })
    expect(unlimited.capacity).toMatchObject({ expertCapacity: 0 })
  })

  it('of longcat counts identity experts', () => {
    const config = { zero_expert_num: 4, routed_scaling_factor: 6 }
    expect(routing('longcat_flash', config)).toMatchObject({
      numExperts: 8,
      numIdentityExperts: 4,
      normTopkProb: false,
    })
  })
})

describe('settings that decide the arithmetic', () => {
  const ling = {
    ...{ architectures: ['BailingMoeV2ForCausalLM'], model_type: 'bailing_moe', score_function: 'sigmoid' },
    ...{ n_group: 2, topk_group: 1, moe_router_enable_expert_bias: true, routed_scaling_factor: 2.5 },
  }
  const typeOf = (config: Record<string, unknown>) => resolveFamily(config, FILE).modelType

  it('tell Ling 2.0 from older models of the same model type', () => {
    expect(typeOf(ling)).toBe('bailing_moe_v2')
    expect(typeOf({ ...ling, architectures: ['BailingMoeForCausalLM'] })).toBe('bailing_moe_v2')
    expect(typeOf({ ...ling, score_function: undefined })).toBe('bailing_moe_v2')
    expect(typeOf({ model_type: 'bailing_moe', architectures: ['BailingMoeForCausalLM'] })).toBe(
      'bailing_moe',
    )
    expect(typeOf({ model_type: 'bailing_moe', score_function: 'softmax' })).toBe('bailing_moe')
    const wrapped = { model_type: 'ming', llm_config: ling }
    expect(resolveFamily(wrapped, FILE)).toMatchObject({ modelType: 'bailing_moe_v2', path: ['llm_config'] })
  })

  it('take the defaults of the config classes', () => {
    expect(routing('qwen3_next', {}).normTopkProb).toBe(true)
    expect(routing('qwen3_omni_moe', {}).normTopkProb).toBe(true)
    expect(routing('qwen3_moe', {}).normTopkProb).toBe(false)
    expect(routing('dots1', {}).normTopkProb).toBe(false)
    expect(routing('lfm2_moe', {})).toMatchObject({ normTopkProb: true, routedScalingFactor: 1 })
    expect(routing('mistral4', {})).toMatchObject({ normTopkProb: true, routedScalingFactor: 1 })
    expect(routing('deepseek_v3', {}, 16)).toMatchObject({
      ...{ numExpertGroups: 8, topkGroup: 4, routedScalingFactor: 2.5, normTopkProb: true },
    })
    const groups = { numExpertGroups: 8, topkGroup: 4, routedScalingFactor: 1 }
    expect(routing('bailing_moe_v2', {}, 16)).toMatchObject(groups)
    expect(routing('glm4_moe', {})).toMatchObject({ numExpertGroups: 1, routedScalingFactor: 1 })
    expect(routing('glm4_moe_lite', {}).routedScalingFactor).toBe(1.8)
    expect(routing('glm_moe_dsa', {}).routedScalingFactor).toBe(2.5)
    expect(routing('exaone_moe', {}).routedScalingFactor).toBe(2.5)
    expect(routing('hy_v3', {}).routedScalingFactor).toBe(2.826)
    expect(routing('longcat_flash', {})).toMatchObject({ routedScalingFactor: 6, numIdentityExperts: 256 })
    expect(routing('phimoe', {}).sparsemixerEpsilon).toBe(0.01)
    const horizon = { scoringFunc: 'softmax', normTopkProb: false, routedScalingFactor: 1 }
    expect(routing('k2_horizon', {})).toMatchObject(horizon)
    expect(routing('k2_horizon', { router_scaling_factor: null })).toMatchObject(horizon)
    expect(routing('deepseek_v4', {}, 8, 2, 2)).toMatchObject({ hashRouted: true, routedScalingFactor: 1.5 })
    expect(row('deepseek_v4').shape!(reader({}), 5)).toEqual({ swigluLimit: 10, sharedSwigluLimit: 10 })
  })
})

describe('activations', () => {
  it.each([
    ['silu', 'silu'],
    ['swish', 'silu'],
    ['gelu', 'gelu'],
    ['gelu_new', 'gelu_pytorch_tanh'],
    ['gelu_pytorch_tanh', 'gelu_pytorch_tanh'],
    ['relu', 'relu'],
    ['relu2', 'relu2'],
    ['relu_squared', 'relu2'],
  ])('%s is %s', (name, activation) => {
    expect(readActivation(reader({ hidden_act: name }), 'hidden_act', 'silu')).toEqual({ activation })
  })

  it('quick_gelu is silu with an alpha, and an absent field the default', () => {
    const config = reader({ hidden_act: 'quick_gelu' })
    expect(readActivation(config, 'hidden_act', 'silu')).toEqual({ activation: 'silu', swigluAlpha: 1.702 })
    expect(readActivation(reader({}), 'hidden_act', 'relu')).toEqual({ activation: 'relu' })
  })
})
