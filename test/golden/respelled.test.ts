/** Every family loads fused and one by one, under its published names and under those of transformers, whatever wraps the model. */

import { afterAll, describe, expect, it } from 'vitest'
import { planLayer } from '../../lib/checkpoint/plan/layer.js'
import type { WritableTensor } from '../../lib/checkpoint/writer.js'
import { type GoldenCase, goldenCases } from './cases.js'
import {
  expectSame,
  fused,
  type Respelling,
  removeRespelled,
  renamed,
  respell,
  swapped,
  tensorsOf,
  unfused,
} from './respelled.js'

afterAll(removeRespelled)

const ALL = new Map(goldenCases().map(golden => [golden.name, golden]))
const golden = (name: string): GoldenCase => ALL.get(name)!

/** The first case of every family whose experts are plain tensors without biases, one by one. */
const plain = [...ALL.values()].filter(({ directory }) => {
  const names = tensorsOf(directory).filter(({ name }) => /experts\.0\.(up_proj|w3)\./.test(name))
  return (
    names.length > 0 &&
    names.every(({ name, dtype }) => /weight$/.test(name) && /^(BF16|F16|F32)$/.test(dtype))
  )
})
const oneByOne = [...new Map([...plain].reverse().map(item => [item.expected.family, item])).values()]

describe('experts in one tensor', () => {
  it('of every family are found', async () => {
    expect(oneByOne.length).toBeGreaterThan(25)
    for (const item of oneByOne) {
      const directory = await respell(item, { tensors: fused() })
      const { matrices, config } = await planLayer(directory, item.expected)
      const routed = matrices.filter(({ role }) => role === 'expert').map(({ matrix }) => matrix)
      const halves = routed.filter(matrix => matrix === (config.gated ? 'gateUp' : 'up'))
      expect(halves, item.name).toHaveLength(config.numExperts)
    }
  })

  it.each(['deepseek_v2_greedy', 'mixtral', 'minimax_m2', 'nemotron_h', 'lfm2_moe', 'longcat_flash'])(
    '%s',
    async name => expectSame(golden(name), { tensors: fused() }),
  )

  it.each([
    ...['qwen3_moe_fp8_bf16_scales', 'qwen3_moe_fp8_channel', 'mixtral_fp8_modelopt'],
    ...['deepseek_v3_nvfp4_modelopt', 'qwen3_moe_nvfp4', 'deepseek_v4_fp4'],
    ...['kimi_k2_int4', 'qwen3_moe_int4_asym', 'qwen3_moe_int8_channel', 'qwen3_moe_int8_bytes_asym'],
    ...['qwen3_moe_gptq', 'qwen3_moe_gptq_v2', 'qwen3_moe_gptq3', 'qwen3_moe_awq'],
  ])('%s, quantised', async name => {
    // Blocks of 128 rows do not end where gate does.
    await expectSame(golden(name), { tensors: fused(name === 'qwen3_moe_fp8_bf16_scales') })
  })

  it('under the name that MLX has for them', async () =>
    expectSame(golden('mixtral'), {
      tensors: tensors => renamed([/\.experts\.(\w+_proj)$/, '.switch_mlp.$1.weight'])(fused(true)(tensors)),
    }))

  it.each([
    ...['mixtral', 'nemotron_h', 'qwen3_moe_gptq_desc_act', 'qwen3_moe_gptq3_sym', 'qwen3_moe_awq'],
    ...['qwen3_moe_nvfp4_awq', 'qwen3_moe_int4_awq_modelopt', 'qwen3_moe_fp8_e5m2'],
  ])('%s with gate and up apart', async name => expectSame(golden(name), { tensors: fused(true) }))
})

describe('experts one by one', () => {
  const gateUp = 'experts.gate_up_proj'
  const down = 'experts.down_proj'
  const halves = unfused(gateUp, down, 'experts.')
  const turned = swapped(/experts\.(gate_up|down)_proj$/)
  it.each<[string, Respelling]>([
    ['gemma4', { tensors: halves }],
    ['gemma4', { tensors: unfused(gateUp, down, 'moe.experts.') }],
    ['mistral4', { tensors: halves }],
    ['qwen3_5_moe_fused', { tensors: halves }],
    ['granitemoe', { tensors: unfused('input_linear.weight', 'output_linear.weight', 'experts.') }],
    ['jetmoe', { tensors: unfused('input_linear.weight', 'output_linear.weight', 'experts.') }],
    ['qwen3_vl_moe', { tensors: tensors => halves(turned(tensors)) }],
    ['llama4', { tensors: tensors => halves(turned(tensors)) }],
    [
      'aria',
      {
        tensors: tensors =>
          unfused('experts.fc1.weight', 'experts.fc2.weight', 'experts.')(swapped(/fc\d/)(tensors)),
      },
    ],
  ])('%s: %#', async (name, respelling) => expectSame(golden(name), respelling))
})

describe('Inkling in NVFP4', () => {
  const W13 = 'experts.w13_weight'
  const W2 = 'experts.w2_weight'
  const floats = ({ data }: WritableTensor) =>
    new Float32Array(Uint8Array.from(new Uint8Array(data.buffer, data.byteOffset, data.byteLength)).buffer)

  it('one by one, as ModelOpt exports it', async () => {
    const factors: Respelling['tensors'] = tensors =>
      tensors.flatMap(tensor => {
        const match = /^(.*experts\.)(w13|w2)_weight\.scale2$/.exec(tensor.name)
        if (!match) return [tensor]
        const matrices = match[2] === 'w13' ? ['gate_proj', 'up_proj'] : ['down_proj']
        return Array.from(floats(tensor), (factor, e) =>
          matrices.map(matrix => ({
            ...{ name: `${match[1]}${e}.${matrix}.weight_scale_2`, dtype: 'F32', shape: [] },
            data: Float32Array.of(factor),
          })),
        ).flat()
      })
    const weights = unfused(W13, W2, 'experts.', true)
    const scales = unfused(`${W13}.scale`, `${W2}.scale`, 'experts.', true, 'weight_scale')
    await expectSame(golden('inkling_nvfp4'), { tensors: tensors => factors(scales(weights(tensors))) })
  })

  it('as transformers has it in memory, halves after one another', async () => {
    const inHalves: Respelling['tensors'] = tensors =>
      tensors.map(tensor => {
        if (!/experts\.w13_weight(\.scale)?$/.test(tensor.name)) return tensor
        const [count = 0, rows = 0] = tensor.shape
        const from = new Uint8Array(tensor.data.buffer, tensor.data.byteOffset, tensor.data.byteLength)
        const size = from.length / (count * rows)
        const to = new Uint8Array(from.length)
        for (let row = 0; row < count * rows; row++) {
          const inside = row % rows
          const target = row - inside + (inside >> 1) + (inside & 1) * (rows / 2)
          to.set(from.subarray(row * size, (row + 1) * size), target * size)
        }
        return { ...tensor, data: to }
      })
    const names = renamed(
      [/^model\.llm\./, 'model.language_model.'],
      [/gate\.bias$/, 'gate.e_score_correction_bias'],
      [/experts\.w13_weight/, 'experts.gate_up_proj'],
      [/experts\.w2_weight/, 'experts.down_proj'],
      [/_proj\.scale2$/, '_proj_weight_scale_2'],
      [/_proj\.scale$/, '_proj_weight_scale'],
    )
    const directory = await respell(golden('inkling_nvfp4'), { tensors: tensors => names(inHalves(tensors)) })
    // The shared experts of this publication alternate still.
    await expect(planLayer(directory, { layer: 2 })).rejects.toMatchObject({
      code: 'ERR_MOE_UNSUPPORTED_FORMAT',
      message: expect.stringMatching(
        /'model\.language_model\.layers\.2\.mlp\.experts\.gate_up_proj'.*one order/,
      ),
    })
    const shared: Respelling['tensors'] = tensors =>
      unfused(
        'shared_experts.shared_w13_weight',
        'shared_experts.shared_w2_weight',
        'shared_experts.',
        true,
      )(tensors)
    await expectSame(golden('inkling_nvfp4'), { tensors: tensors => names(inHalves(shared(tensors))) })
  })

  it('as compressed-tensors names it, with factors that divide', async () => {
    const divided: Respelling['tensors'] = tensors =>
      tensors.map(tensor =>
        /\.scale2$/.test(tensor.name)
          ? { ...tensor, shape: [tensor.shape[0]!, 1], data: floats(tensor).map(factor => 1 / factor) }
          : tensor,
      )
    const names = renamed(
      [/(experts\.w13_weight|experts\.w2_weight)$/, '$1.weight_packed'],
      [/\.scale2$/, '.weight_global_scale'],
      [/\.scale$/, '.weight_scale'],
    )
    await expectSame(golden('inkling_nvfp4'), { tensors: tensors => names(divided(tensors)) })
  })
})

describe('fused tensors the other way round, where the shapes tell', () => {
  it('with the grid of their scales', async () =>
    expectSame(golden('qwen3_5_moe_fp8_fused'), {
      tensors: swapped(/experts\.(gate_up|down)_proj(_scale_inv)?$/),
    }))

  it.each(['qwen3_vl_moe', 'llama4', 'gpt_oss', 'qwen3_5_moe_fused', 'gemma4'])('%s', async name =>
    expectSame(golden(name), { tensors: swapped(/experts\.(gate_up|down)_proj$/) }),
  )
})

describe('names that transformers has in memory', () => {
  const mlp: [RegExp, string] = [/\.block_sparse_moe\./, '.mlp.']
  it.each<[string, [RegExp, string][]]>([
    ['mixtral', [mlp]],
    ['minimax', [mlp]],
    ['minimax_m2', [mlp]],
    ['phimoe', [mlp, [/\.gate\.weight$/, '.router.weight']]],
    ['ernie4_5_moe', [[/mlp\.moe_statics\./, 'mlp.gate.moe_statics.']]],
    ['exaone_moe', [[/mlp\.e_score/, 'mlp.gate.e_score']]],
    [
      'hy_v3',
      [
        [/router\.gate\./, 'gate.'],
        [/expert_bias/, 'e_score_correction_bias'],
        [/shared_mlp/, 'shared_experts'],
      ],
    ],
    [
      'laguna',
      [
        [/experts\.e_score/, 'gate.e_score'],
        [/shared_expert\./, 'shared_experts.'],
      ],
    ],
    [
      'deepseek_v4',
      [
        [/\.ffn\./, '.mlp.'],
        [/^/, 'model.'],
        [/gate\.bias/, 'gate.e_score_correction_bias'],
        [/shared_experts\.w1/, 'shared_experts.gate_proj'],
        [/shared_experts\.w3/, 'shared_experts.up_proj'],
        [/shared_experts\.w2/, 'shared_experts.down_proj'],
      ],
    ],
  ])('%s', async (name, changes) => {
    await expectSame(golden(name), { tensors: tensors => fused()(renamed(...changes)(tensors)) })
  })
})

describe('what wraps a language model', () => {
  it.each(['', 'language_model.model.', 'model.language_model.', 'llm.model.'])("'%s'", async prefix =>
    expectSame(golden('mixtral'), { tensors: renamed([/^model\./, prefix]) }),
  )

  const twice: Respelling['tensors'] = tensors => [
    ...tensors,
    ...renamed([/^model\./, 'other.model.'])(tensors),
  ]

  it('two candidates are an error that names both', async () => {
    const directory = await respell(golden('mixtral'), { tensors: twice })
    await expect(planLayer(directory, { layer: 0 })).rejects.toMatchObject({
      code: 'ERR_MOE_INVALID_CHECKPOINT',
      message: expect.stringMatching(
        /'model\.layers\.0\..*'other\.model\.layers\.0\..*option module: 'model' or 'other\.model'/,
      ),
    })
  })

  it('the section of config.json decides between several models', async () => {
    const talker: Respelling['tensors'] = tensors => [
      ...tensors,
      ...renamed([/^thinker\./, 'other.'])(tensors.filter(({ name }) => name.startsWith('thinker.'))),
    ]
    await expectSame(golden('qwen3_omni_moe'), { tensors: talker })
  })

  it.each(['model', 'other', 'other.model'])("module '%s' chooses where nothing else does", async module =>
    expectSame(golden('mixtral'), { tensors: twice, module }),
  )

  it("module '' is the language model whose layers have nothing before them", async () => {
    const bare: Respelling['tensors'] = tensors => [...tensors, ...renamed([/^model\./, ''])(tensors)]
    await expectSame(golden('mixtral'), { tensors: bare, module: '' })
  })

  it('a module chooses config and tensors, and what was chosen unasked is said', async () => {
    const { directory } = golden('qwen3_omni_moe')
    const { config, notices } = await planLayer(directory, { layer: 1 })
    expect(config).toMatchObject({ family: 'qwen3_omni_moe', topK: 3 })
    expect(notices).toEqual([
      expect.stringMatching(/'talker\.model', 'thinker\.model': 'thinker\.model' is taken.*option module/),
    ])
    const { directory: other } = golden('qwen3_omni_moe_talker')
    const talker = await planLayer(other, { layer: 1, module: 'talker' })
    expect(talker.config).toMatchObject({ family: 'qwen3_omni_moe_talker', topK: 2, numSharedExperts: 1 })
    expect(talker.notices).toEqual([])
    // The talker has three layers, the thinker fourteen.
    await expect(planLayer(other, { layer: 3, module: 'talker' })).rejects.toThrow(/from 0 to 2/)
  })

  it('a module that is not there is a RangeError that lists those that are', async () => {
    const { directory } = golden('qwen3_omni_moe')
    await expect(planLayer(directory, { layer: 1, module: 'talk' })).rejects.toMatchObject({
      name: 'RangeError',
      code: 'ERR_MOE_INVALID_ARG_VALUE',
      message: expect.stringMatching(/'talker\.model', 'thinker\.model'.*'talk'/),
    })
  })
})

describe('layers for multi-token prediction', () => {
  it('stand in a module of their own, and are never taken for an ordinary layer', async () => {
    // Index 14 is the first behind the last; `mtp.layers.0` beside `model.layers.0` is no second candidate.
    const moved = renamed([/^model\.layers\.1\./, 'mtp.layers.0.'])
    await expectSame(golden('qwen3_next'), { tensors: moved, layer: 14 })
    const beside: Respelling['tensors'] = tensors => [
      ...tensors,
      ...moved(tensors).filter(({ name }) => name.startsWith('mtp.')),
    ]
    await expectSame(golden('qwen3_next'), { tensors: beside })
  })

  it('of DeepSeek-V4 are `mtp.N`', async () => {
    const moved = renamed([/^layers\.3\./, 'mtp.0.'])
    await expectSame(golden('deepseek_v4'), { tensors: moved, layer: 14 })
  })

  it('that are dense, or not there, say so', async () => {
    const dense = renamed([/^model\.layers\.0\./, 'mtp.layers.0.'])
    const directory = await respell(golden('qwen3_next'), { tensors: dense })
    await expect(planLayer(directory, { layer: 14 })).rejects.toMatchObject({ code: 'ERR_MOE_NOT_SPARSE' })
    await expect(planLayer(golden('qwen3_next').directory, { layer: 14 })).rejects.toThrow(RangeError)
    await expect(planLayer(golden('deepseek_v3').directory, { layer: 14 })).rejects.toMatchObject({
      code: 'ERR_MOE_MISSING_TENSOR',
    })
  })
})

describe('arithmetic of another model', () => {
  const f32 = (name: string, ...shape: number[]) => ({
    ...{ name, dtype: 'F32', shape },
    data: new Float32Array(shape.reduce((product, length) => product * length, 1)),
  })
  it.each<[string, Record<string, unknown>, string]>([
    ['qwen3_moe', { routed_scaling_factor: 2.5 }, 'routed_scaling_factor'],
    ['qwen3_moe', { scoring_func: 'sigmoid' }, 'scoring_func'],
    ['mixtral', { n_group: 4, topk_group: 2 }, 'n_group'],
    ['olmoe', { swiglu_limit: 7 }, 'swiglu_limit'],
    ['bailing_moe', { routed_scaling_factor: 2.5 }, 'routed_scaling_factor'],
    ['bailing_moe_v2', { score_function: 'softmax' }, 'score_function'],
    ['minimax_m2', { moe_latent_size: 8 }, 'moe_latent_size'],
    ['hy_v3', { route_norm: false }, 'route_norm'],
    ['hunyuan_v1_moe', { norm_topk_prob: false }, 'norm_topk_prob'],
  ])('%s with %o is refused', async (name, change, field) => {
    const item = golden(name)
    const directory = await respell(item, { config: config => ({ ...config, ...change }) })
    await expect(planLayer(directory, { layer: item.expected.layer })).rejects.toMatchObject({
      code: 'ERR_MOE_INVALID_CONFIG',
      message: expect.stringContaining(field),
    })
  })

  it.each<[string, Record<string, unknown>]>([
    ['qwen3_moe', { routed_scaling_factor: 1, n_group: 1, scoring_func: 'softmax', swiglu_limit: null }],
    ['deepseek_v2_greedy', { n_group: 4, topk_group: 2 }],
    ['granitemoe', { score_function: 'softmax' }],
    ['glm4_moe', { n_group: 1, topk_group: 4 }],
  ])('%s with %o is not', async (name, change) =>
    expectSame(golden(name), { config: config => ({ ...config, ...change }) }),
  )

  it.each([
    ['qwen3_moe', f32('model.layers.0.mlp.gate.e_score_correction_bias', 8)],
    ['qwen3_moe', f32('model.layers.0.mlp.shared_expert.up_proj.weight', 4, 4)],
    ['mixtral', f32('model.layers.0.block_sparse_moe.shared_experts.up_proj.weight', 4, 4)],
  ])('%s with a tensor that it does not read is refused', async (name, tensor) => {
    const item = golden(name)
    const directory = await respell(item, { tensors: tensors => [...tensors, tensor] })
    await expect(planLayer(directory, { layer: item.expected.layer })).rejects.toMatchObject({
      code: 'ERR_MOE_INVALID_CONFIG',
      message: expect.stringContaining(tensor.name),
    })
  })
})

describe('quantization_config in other words', () => {
  const quantization = (change: (config: Record<string, unknown>) => unknown): Respelling => ({
    config: config => ({
      ...config,
      quantization_config: change(config.quantization_config as Record<string, unknown>),
    }),
  })
  const autoRound = { quant_method: 'auto-round', bits: 4, group_size: 16, sym: false, data_type: 'int' }
  it.each<[string, Respelling]>([
    [
      'qwen3_moe_gptq_desc_act',
      quantization(() => ({ ...autoRound, packing_format: 'auto_round:auto_gptq' })),
    ],
    [
      'qwen3_moe_gptq',
      quantization(() => ({ ...autoRound, quant_method: 'intel/auto-round', sym: true, group_size: 32 })),
    ],
    ...['auto_round', 'auto_round:exllamav2'].map((packing_format): [string, Respelling] => [
      'qwen3_moe_gptq_sym',
      quantization(() => ({ ...autoRound, sym: true, group_size: 32, packing_format })),
    ]),
    [
      'qwen3_moe_awq',
      quantization(() => ({ ...autoRound, group_size: 32, packing_format: 'auto_round:auto_awq' })),
    ],
    [
      'qwen3_moe_awq',
      quantization(() => ({ quant_method: 'awq', w_bit: 4, q_group_size: 32, version: 'GEMM' })),
    ],
    [
      'qwen3_moe_gptq3',
      quantization(() => ({ ...autoRound, bits: 3, group_size: 32, packing_format: 'auto_round:auto_gptq' })),
    ],
    ['qwen3_moe_quark_int4', quantization(config => ({ ...config, export: undefined }))],
    ['qwen3_moe_mxfp8', quantization(() => ({ quant_method: 'modelopt', quant_algo: 'MXFP8' }))],
    ['qwen3_moe_mxfp8', quantization(() => ({ quant_method: 'quark', global_quant_config: {} }))],
    ['qwen3_moe_int8_bytes', quantization(() => ({ quant_method: 'quark', global_quant_config: {} }))],
    ['mixtral_fp8_modelopt', quantization(({ quant_method: _, ...rest }) => rest)],
    ['qwen3_moe_int4_channel', quantization(({ quant_method: _, ...rest }) => rest)],
    [
      'qwen3_moe_fp8_channel',
      quantization(() => ({ quant_method: 'fbgemm_fp8', activation_scale_ub: 1200 })),
    ],
  ])('%s: %#', async (name, respelling) => expectSame(golden(name), respelling))

  const noConfig: Respelling = { config: ({ quantization_config: _, ...rest }) => rest }
  const reshaped = (pattern: RegExp, shape: (old: readonly number[]) => number[]): Respelling => ({
    tensors: tensors =>
      tensors.map(tensor => (pattern.test(tensor.name) ? { ...tensor, shape: shape(tensor.shape) } : tensor)),
  })
  it.each<[string, string, Respelling]>([
    ['one scale as [1]', 'mixtral_fp8_modelopt', reshaped(/weight_scale$/, () => [1])],
    ['one scale as [1, 1]', 'mixtral_fp8_modelopt', reshaped(/weight_scale$/, () => [1, 1])],
    ['a grid as [r, 1, c, 1]', 'qwen3_moe_fp8_e5m2', reshaped(/scale_inv$/, ([r, c]) => [r!, 1, c!, 1])],
    [
      'a scale of each output as [out]',
      'qwen3_moe_fp8_channel',
      reshaped(/weight_scale$/, ([out]) => [out!]),
    ],
    ['the same of integers', 'qwen3_moe_int4_channel', reshaped(/weight_scale$/, ([out]) => [out!])],
    ["NVFP4's factor as []", 'qwen3_moe_nvfp4', reshaped(/global_scale$/, () => [])],
    [
      'one scale of each expert as [E, 1, 1]',
      'mixtral_fp8_modelopt',
      {
        tensors: tensors =>
          reshaped(/weight_scale$/, shape => [...shape, 1, 1]).tensors!(fused(true)(tensors)),
      },
    ],
    [
      'an index of groups without elements',
      'qwen3_moe_gptq',
      {
        tensors: tensors =>
          tensors.map(tensor =>
            /g_idx$/.test(tensor.name) ? { ...tensor, shape: [0], data: new Uint8Array(0) } : tensor,
          ),
      },
    ],
    ['NVFP4 without a config', 'deepseek_v3_nvfp4_modelopt', noConfig],
    ['int4 of ModelOpt without a config', 'qwen3_moe_int4_awq_modelopt', noConfig],
  ])('%s', async (_, name, respelling) => expectSame(golden(name), respelling))

  const unread: [string, string, Respelling, RegExp][] = [
    [
      '3 bits',
      'qwen3_moe_int4_channel',
      quantization(config => ({
        ...config,
        config_groups: { a: { weights: { num_bits: 3, type: 'int' } } },
      })),
      /weight_packed.*3 bit int.*2, 4 or 8 bits.*use a publication/,
    ],
    [
      'packed words without a method',
      'qwen3_moe_gptq',
      { config: ({ quantization_config: _, ...rest }) => rest },
      /qweight.*quant_method 'awq', 'gptq'/,
    ],
    [
      'rotated weights',
      'qwen3_moe_int4_channel',
      quantization(config => ({ ...config, transform_config: { config_groups: { R1: {} } } })),
      /transform_config rotates/,
    ],
    [
      'an unknown dtype',
      'qwen3_moe',
      {
        tensors: tensors =>
          tensors.map(tensor =>
            /experts\.1\.up_proj/.test(tensor.name)
              ? {
                  ...tensor,
                  dtype: 'F8_E4M3FNUZ',
                  shape: [tensor.shape[0]!, tensor.data.byteLength / tensor.shape[0]!],
                }
              : tensor,
          ),
      },
      /experts\.1\.up_proj\.weight.*F8_E4M3FNUZ.*use a publication/,
    ],
    [
      "zero points of 3 bits with GPTQModel's constants",
      'qwen3_moe_gptq3',
      quantization(config => ({ ...config, meta: { quantizer: ['gptqmodel:2.2.0'] } })),
      /qzeros.*zero points of 3 bits that GPTQModel stores.*gptq_v2/,
    ],
    ...[
      [{ dtype: 'int3' }, /Quark's int3 is no form/],
      [
        { dtype: 'int4', qscheme: 'per_channel' },
        /Quark's int4 with qscheme 'per_channel'; per_group is read/,
      ],
      [{ dtype: 'int8' }, /Quark's int8 with qscheme 'per_group', which lies input-major/],
      [{ dtype: 'fp4' }, /weights in I32 of which config\.json's weight\.dtype/],
    ].map(([weight, message]): [string, string, Respelling, RegExp] => [
      `Quark's ${JSON.stringify(weight)}`,
      'qwen3_moe_quark_int4',
      quantization(config => ({
        ...config,
        global_quant_config: { weight: { qscheme: 'per_group', ...(weight as object) } },
      })),
      message as RegExp,
    ]),
    ...[
      { quantization: { group_size: 64, bits: 4 } },
      { quantization: { group_size: 64, bits: 4 }, quantization_config: { group_size: 64, bits: 4 } },
    ].map((more, index): [string, string, Respelling, RegExp] => [
      `MLX, ${index}`,
      'mixtral',
      {
        config: config => ({ ...config, ...more }),
        tensors: tensors =>
          fused(true)(tensors).map(tensor => {
            const name = tensor.name.replace(/\.experts\.(w1|w2|w3|\w+_proj)$/, '.switch_mlp.$1.weight')
            return name === tensor.name
              ? tensor
              : { ...tensor, name, dtype: 'U32', shape: [...tensor.shape.slice(0, 2), tensor.shape[2]! / 2] }
          }),
      },
      index === 0
        ? /switch_mlp\.\w+_proj\.weight'.*weights in U32, as MLX packs them.*use a publication/
        : /quant_method 'mlx' is not supported.*use a publication/,
    ]),
    [
      "compressed-tensors' Marlin tiles",
      'qwen3_moe_int4_channel',
      quantization(config => ({ ...config, format: 'marlin-24' })),
      /format 'marlin-24' is not supported; use a publication/,
    ],
    [
      'scales of integers in fp8',
      'qwen3_moe_int4_channel',
      {
        tensors: tensors =>
          tensors.map(tensor =>
            /experts\.1\.up_proj\.weight_scale$/.test(tensor.name)
              ? { ...tensor, dtype: 'F8_E4M3', shape: [tensor.shape[0]!, 2 * tensor.shape[1]!] }
              : tensor,
          ),
      },
      /experts\.1\.up_proj\.weight_scale'.*F8_E4M3 is no form that is read here.*use a publication/,
    ],
    [
      "Quark's other order",
      'qwen3_moe_quark_uint4',
      quantization(config => ({ ...config, export: { pack_method: 'order' } })),
      /pack_method 'order'; reorder is read/,
    ],
    [
      'integers of ModelOpt with a second scale',
      'qwen3_moe_int4_awq_modelopt',
      {
        tensors: tensors => [
          ...tensors,
          {
            name: 'model.layers.1.mlp.experts.0.up_proj.weight_scale_2',
            dtype: 'F32',
            shape: [],
            data: Float32Array.of(1),
          },
        ],
      },
      /up_proj\.weight'.*second scale/,
    ],
  ]
  it.each(unread)('%s is no form that is read', async (_, name, respelling, message) => {
    const item = golden(name)
    const directory = await respell(item, respelling)
    await expect(planLayer(directory, { layer: item.expected.layer })).rejects.toMatchObject({
      code: 'ERR_MOE_UNSUPPORTED_FORMAT',
      message: expect.stringMatching(message),
    })
  })

  it('what adds to the product is no form that is read', async () => {
    const lora: Respelling['tensors'] = tensors => [
      ...tensors,
      {
        name: 'model.layers.1.mlp.experts.0.up_proj.svdquant_lora_a',
        dtype: 'F32',
        shape: [1],
        data: new Float32Array(1),
      },
    ]
    const item = golden('deepseek_v3_nvfp4_modelopt')
    const directory = await respell(item, { tensors: lora })
    await expect(planLayer(directory, { layer: item.expected.layer })).rejects.toMatchObject({
      code: 'ERR_MOE_UNSUPPORTED_FORMAT',
      message: expect.stringContaining('svdquant_lora_a'),
    })
  })

  it('an order of columns that nothing tells is a missing tensor', async () => {
    const without =
      (pattern: RegExp): Respelling['tensors'] =>
      tensors =>
        tensors.filter(({ name }) => !pattern.test(name))
    const gptq = await respell(golden('qwen3_moe_gptq_desc_act'), { tensors: without(/g_idx/) })
    await expect(planLayer(gptq, { layer: 1 })).rejects.toMatchObject({
      code: 'ERR_MOE_MISSING_TENSOR',
      message: expect.stringContaining('g_idx'),
    })
  })
})
