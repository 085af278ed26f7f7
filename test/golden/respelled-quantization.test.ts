/** Quantised checkpoints load whatever words their config.json has for the same form, and others are refused. */

import { afterAll, describe, expect, it } from 'vitest'
import { planLayer } from '../../lib/checkpoint/plan/layer.js'
import { goldenCase } from './cases.js'
import { expectSame, fused, type Respelling, removeRespelled, respell } from './respelled.js'

afterAll(removeRespelled)

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
  ])('%s: %#', async (name, respelling) => expectSame(goldenCase(name), respelling))

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
  ])('%s', async (_, name, respelling) => expectSame(goldenCase(name), respelling))

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
    const item = goldenCase(name)
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
    const item = goldenCase('deepseek_v3_nvfp4_modelopt')
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
    const gptq = await respell(goldenCase('qwen3_moe_gptq_desc_act'), { tensors: without(/g_idx/) })
    await expect(planLayer(gptq, { layer: 1 })).rejects.toMatchObject({
      code: 'ERR_MOE_MISSING_TENSOR',
      message: expect.stringContaining('g_idx'),
    })
  })
})
