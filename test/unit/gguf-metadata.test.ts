/** Metadata of GGUF files as a config: what is stated, what the family adds, and what is refused. */

import { afterAll, describe, expect, it } from 'vitest'
import type { MoeConfig } from '../../lib/block/config.js'
import { MoeLayer } from '../../lib/index.js'
import { keysOf, type Metadata, removeGguf, writeGguf } from '../golden/gguf-layer.js'
import { E, experts, f32, H, K, model, plan, SIZES } from '../helpers/gguf-model.js'
import { type GgufFile, ggufArray, ggufScalar, ggufValue } from '../helpers/gguf-writer.js'

afterAll(removeGguf)

describe('metadata', () => {
  const v3 = (numExperts: number, metadata: Metadata = {}, bias = true): GgufFile =>
    model(
      [
        f32('blk.0.ffn_gate_inp.weight', [numExperts, H]),
        ...(bias ? [f32('blk.0.exp_probs_b.bias', [numExperts])] : []),
        f32('blk.0.ffn_gate_exps.weight', [numExperts, 1, H]),
        f32('blk.0.ffn_up_exps.weight', [numExperts, 1, H]),
        f32('blk.0.ffn_down_exps.weight', [numExperts, H, 1]),
      ],
      { expert_count: numExperts, expert_used_count: 8, expert_weights_norm: true, ...metadata },
      'deepseek2',
    )

  it("DeepSeek-V3's groups where a file does not state them, and a line that says so", async () => {
    const { config, notices } = await plan(v3(256, { expert_gating_func: 2, expert_weights_scale: 2.5 }))
    expect(config).toMatchObject({
      numExpertGroups: 8,
      topkGroup: 4,
      groupScore: 'top2_sum',
      routedScalingFactor: 2.5,
    })
    expect(notices.join()).toMatch(/does not state expert_group_count: 8 groups, of which 4 are kept/)
  })

  it("DeepSeek-V2's, whose groups score by their best expert", async () => {
    const { config, notices } = await plan(
      v3(160, { expert_weights_norm: false, expert_weights_scale: 16 }, false),
    )
    expect(config).toMatchObject({
      ...{ family: 'deepseek_v2', scoringFunc: 'softmax', numExpertGroups: 8, topkGroup: 3 },
      ...{ groupScore: 'max', routedScalingFactor: 16 },
    })
    expect(notices).toHaveLength(1)
  })

  it.each([
    ['another number of experts has no groups', 384, {}, { numExpertGroups: 1 }],
    [
      'stated groups are taken',
      256,
      { expert_group_count: 4, expert_group_used_count: 2 },
      { numExpertGroups: 4, topkGroup: 2 },
    ],
    ['one group is none', 256, { expert_group_count: 1, expert_group_used_count: 1 }, { numExpertGroups: 1 }],
    ['no factor', 64, {}, { routedScalingFactor: 1 }],
    ['a factor of 0 is none', 64, { expert_weights_scale: 0 }, { routedScalingFactor: 1 }],
    ['a factor that f32 has rounded', 64, { expert_weights_scale: 1.8 }, { routedScalingFactor: 1.8 }],
    ['not renormalised', 64, { expert_weights_norm: false }, { normTopkProb: false }],
  ] as const)('%s', async (_, numExperts, metadata, expected) => {
    const { config, notices } = await plan(v3(numExperts, metadata))
    expect(config).toMatchObject({ family: 'deepseek_v3', scoringFunc: 'sigmoid', ...expected })
    expect(notices).toEqual([])
  })

  it('the option config says what a file leaves out, and overrides', async () => {
    const config: Partial<MoeConfig> = { numExpertGroups: 1, topkGroup: 1 }
    expect((await plan(v3(256), { config })).config).toMatchObject({ numExpertGroups: 1 })
    const layer = await MoeLayer.load(writeGguf(v3(256)), {
      device: 'reference',
      config: { routedScalingFactor: 3 },
    })
    expect(layer.config).toMatchObject({ routedScalingFactor: 3, numExpertGroups: 8 })
    layer.dispose()
    await expect(plan(v3(256), { config: { numExpertGroups: 7 } })).rejects.toMatchObject({
      code: 'ERR_MOE_INVALID_CONFIG',
    })
  })

  it.each<[string, object, string, RegExp]>([
    [
      'a size',
      { hiddenSize: 64 },
      'ERR_MOE_INVALID_ARG_VALUE',
      /nothing \(it follows from the tensors\) for config\.hiddenSize/,
    ],
    ['a misspelt field', { numExpertGroup: 1 }, 'ERR_MOE_UNKNOWN_OPTION', /did you mean 'numExpertGroups'/],
    ['a number', 3 as never, 'ERR_MOE_INVALID_ARG_TYPE', /an object for config/],
  ])('the option config with %s', async (_, config, code, message) => {
    await expect(MoeLayer.load('nowhere', { config })).rejects.toMatchObject({
      code,
      message: expect.stringMatching(message),
    })
  })

  it('integers of every width', async () => {
    const file = model()
    const keys = file.keys!.map(([key, value]) => {
      if (key === 'qwen3moe.expert_count') return [key, ggufScalar('u64', E)] as const
      if (key === 'qwen3moe.block_count') return [key, ggufScalar('u8', 2)] as const
      return key === 'qwen3moe.expert_used_count'
        ? ([key, ggufScalar('i32', K)] as const)
        : ([key, value] as const)
    })
    expect((await plan({ ...file, keys })).config).toMatchObject({ numExperts: E, topK: K })
  })

  const without = (key: string): GgufFile => ({
    ...model(),
    keys: model().keys!.filter(([name]) => name !== key),
  })
  const withKey = (key: string, value: ReturnType<typeof ggufValue>): GgufFile => {
    const file = without(key)
    return { ...file, keys: [...file.keys!, [key, value]] }
  }
  it.each<[string, GgufFile, string, RegExp]>([
    [
      'no architecture',
      without('general.architecture'),
      'ERR_MOE_INVALID_CONFIG',
      /general\.architecture is missing/,
    ],
    [
      'an architecture that is a number',
      withKey('general.architecture', ggufValue(7)),
      'ERR_MOE_INVALID_CONFIG',
      /must be a string, is 7 of type u32/,
    ],
    [
      'an architecture without experts',
      model(experts(), { expert_count: 0 }),
      'ERR_MOE_NOT_SPARSE',
      /has no experts/,
    ],
    [
      'a dense architecture',
      model([], { expert_count: undefined }, 'gemma3'),
      'ERR_MOE_NOT_SPARSE',
      /architecture 'gemma3' has no experts/,
    ],
    [
      'an unknown one with experts',
      model(experts(), {}, 'somemoe'),
      'ERR_MOE_UNSUPPORTED_FAMILY',
      /'somemoe' is not supported: the supported ones are afmoe.*qwen3moe/,
    ],
    ['Arctic', model(experts(), {}, 'arctic'), 'ERR_MOE_UNSUPPORTED_FAMILY', /a norm of their own/],
    [
      'the part for images',
      model([], {}, 'clip'),
      'ERR_MOE_UNSUPPORTED_FAMILY',
      /give the file of its language model/,
    ],
    [
      '__proto__',
      model(experts(), {}, '__proto__'),
      'ERR_MOE_UNSUPPORTED_FAMILY',
      /'__proto__' is not supported/,
    ],
    [
      'no width',
      without('qwen3moe.embedding_length'),
      'ERR_MOE_INVALID_CONFIG',
      /qwen3moe\.embedding_length is missing/,
    ],
    ['no layers', without('qwen3moe.block_count'), 'ERR_MOE_INVALID_CONFIG', /block_count is missing/],
    [
      '70,000 layers',
      withKey('qwen3moe.block_count', ggufScalar('u32', 70_000)),
      'ERR_MOE_INVALID_CONFIG',
      /from 1 to 65536/,
    ],
    [
      '-1 layers',
      withKey('qwen3moe.block_count', ggufScalar('i32', -1)),
      'ERR_MOE_INVALID_CONFIG',
      /from 1 to 65536, is -1/,
    ],
    [
      '100,000 experts',
      model(experts(), { expert_count: 100_000 }),
      'ERR_MOE_INVALID_CONFIG',
      /expert_count must be an integer from 0 to 65536/,
    ],
    [
      '2^63 experts',
      withKey('qwen3moe.expert_count', ggufScalar('u64', 2n ** 63n)),
      'ERR_MOE_INVALID_CONFIG',
      /expert_count must be/,
    ],
    [
      'experts as a float',
      withKey('qwen3moe.expert_count', ggufScalar('f32', 3)),
      'ERR_MOE_INVALID_CONFIG',
      /is 3 of type f32/,
    ],
    [
      'more experts used than there are',
      model(experts(), { expert_used_count: E + 1 }),
      'ERR_MOE_INVALID_CONFIG',
      /expert_used_count must be an integer from 1 to 3/,
    ],
    [
      'another gating function',
      model(experts(), { expert_gating_func: 2 }),
      'ERR_MOE_INVALID_CONFIG',
      /expert_gating_func is 2, where the architecture has 1/,
    ],
    [
      'a gating function that nothing has',
      model(experts(), { expert_gating_func: 9 }, 'deepseek4'),
      'ERR_MOE_INVALID_CONFIG',
      /expert_gating_func is 9/,
    ],
    [
      'a factor that the model has not',
      model(experts(), { expert_weights_scale: 2.5 }),
      'ERR_MOE_INVALID_CONFIG',
      /routed_scaling_factor is 2.5, which qwen3_moe does not compute with/,
    ],
    [
      'a factor that is no number',
      model(experts(), { expert_weights_scale: Number.NaN }),
      'ERR_MOE_INVALID_CONFIG',
      /must be a finite number, is NaN/,
    ],
    [
      'groups that the model has not',
      model(experts(), { expert_group_count: 3, expert_group_used_count: 1 }),
      'ERR_MOE_INVALID_CONFIG',
      /n_group is 3/,
    ],
    [
      'a norm that the model has not',
      model(experts(), { expert_weights_norm: false }, 'llama'),
      'ERR_MOE_INVALID_CONFIG',
      /expert_weights_norm is false, which/,
    ],
    [
      'a norm as a number',
      model(experts(), { expert_weights_norm: 1 }),
      'ERR_MOE_INVALID_CONFIG',
      /must be true or false/,
    ],
    [
      'a limit that the model has not',
      model(experts(), { swiglu_clamp_exp: 7 }),
      'ERR_MOE_INVALID_CONFIG',
      /swiglu_limit is 7/,
    ],
    [
      'limits of fewer layers than there are',
      model(experts(), { swiglu_clamp_exp: [7.5] }),
      'ERR_MOE_INVALID_CONFIG',
      /has 1 entries where the model has 2 layers/,
    ],
  ])('%s', async (_, file, code, message) => {
    await expect(plan(file)).rejects.toMatchObject({ code, message: expect.stringMatching(message) })
  })
})

it('arrays that a layer needs are read from their beginning to their end', async () => {
  const keys = keysOf('step35', { ...SIZES, expert_weights_norm: true })
  const limits = ggufArray('f32', [0, 1.5])
  const file: GgufFile = {
    keys: [...keys, ['step35.swiglu_clamp_exp', limits]],
    tensors: experts(1),
  }
  expect((await plan(file)).config).toMatchObject({ family: 'step3p5', swigluLimit: 1.5 })
})
