/** Every family loads fused and one by one, and under the names that transformers has in memory. */

import { afterAll, describe, expect, it } from 'vitest'
import { planLayer } from '../../lib/checkpoint/plan/layer.js'
import { goldenCase, goldenCases } from './cases.js'
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

/** The first case of every family whose experts are plain tensors without biases, one by one. */
const plain = goldenCases().filter(({ directory }) => {
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
    async name => expectSame(goldenCase(name), { tensors: fused() }),
  )

  it.each([
    ...['qwen3_moe_fp8_bf16_scales', 'qwen3_moe_fp8_channel', 'mixtral_fp8_modelopt'],
    ...['deepseek_v3_nvfp4_modelopt', 'qwen3_moe_nvfp4', 'deepseek_v4_fp4'],
    ...['kimi_k2_int4', 'qwen3_moe_int4_asym', 'qwen3_moe_int8_channel', 'qwen3_moe_int8_bytes_asym'],
    ...['qwen3_moe_gptq', 'qwen3_moe_gptq_v2', 'qwen3_moe_gptq3', 'qwen3_moe_awq'],
  ])('%s, quantised', async name => {
    // Blocks of 128 rows do not end where gate does.
    await expectSame(goldenCase(name), { tensors: fused(name === 'qwen3_moe_fp8_bf16_scales') })
  })

  it('under the name that MLX has for them', async () =>
    expectSame(goldenCase('mixtral'), {
      tensors: tensors => renamed([/\.experts\.(\w+_proj)$/, '.switch_mlp.$1.weight'])(fused(true)(tensors)),
    }))

  it.each([
    ...['mixtral', 'nemotron_h', 'qwen3_moe_gptq_desc_act', 'qwen3_moe_gptq3_sym', 'qwen3_moe_awq'],
    ...['qwen3_moe_nvfp4_awq', 'qwen3_moe_int4_awq_modelopt', 'qwen3_moe_fp8_e5m2'],
  ])('%s with gate and up apart', async name => expectSame(goldenCase(name), { tensors: fused(true) }))
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
  ])('%s: %#', async (name, respelling) => expectSame(goldenCase(name), respelling))
})

describe('fused tensors the other way round, where the shapes tell', () => {
  it('with the grid of their scales', async () =>
    expectSame(goldenCase('qwen3_5_moe_fp8_fused'), {
      tensors: swapped(/experts\.(gate_up|down)_proj(_scale_inv)?$/),
    }))

  it.each(['qwen3_vl_moe', 'llama4', 'gpt_oss', 'qwen3_5_moe_fused', 'gemma4'])('%s', async name =>
    expectSame(goldenCase(name), { tensors: swapped(/experts\.(gate_up|down)_proj$/) }),
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
    await expectSame(goldenCase(name), { tensors: tensors => fused()(renamed(...changes)(tensors)) })
  })
})
