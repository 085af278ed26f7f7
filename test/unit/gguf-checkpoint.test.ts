/** GGUF files as checkpoints: names and forms that llama.cpp's converters write, splits, metadata, and what is refused. */

import { createHash } from 'node:crypto'
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import path from 'node:path'
import { afterAll, describe, expect, it } from 'vitest'
import type { MoeConfig } from '../../lib/block/config.js'
import { readGgufHeader } from '../../lib/checkpoint/gguf/header.js'
import { loadMatrices } from '../../lib/checkpoint/load/matrices.js'
import { planLayer } from '../../lib/checkpoint/plan/layer.js'
import { MoeLayer } from '../../lib/index.js'
import { STORED_FORMATS } from '../../lib/spec/formats.js'
import { dense, keysOf, type Metadata, removeGguf, writeGguf } from '../golden/gguf-layer.js'
import { memoryFile } from '../helpers/checkpoint-memory.js'
import { ggmlGolden } from '../helpers/ggml-golden.js'
import {
  type GgufFile,
  type GgufTensor,
  ggufArray,
  ggufBytes,
  ggufScalar,
  ggufValue,
} from '../helpers/gguf-writer.js'

afterAll(removeGguf)

const [E, K, H, I] = [3, 2, 64, 32]

const floats = (count: number, from = 0) =>
  Float32Array.from({ length: count }, (_, i) => Math.fround((from + i) / 8 - 3))
const bytesOf = (values: ArrayBufferView) =>
  new Uint8Array(values.buffer, values.byteOffset, values.byteLength)
const f32 = (name: string, shape: readonly number[], from = 0): GgufTensor => ({
  ...{ name, type: 'F32', shape },
  data: bytesOf(
    floats(
      shape.reduce((product, length) => product * length, 1),
      from,
    ),
  ),
})

const SIZES: Metadata = {
  block_count: 2,
  embedding_length: H,
  expert_count: E,
  expert_used_count: K,
  expert_feed_forward_length: I,
}

const experts = (layer = 0): GgufTensor[] => [
  f32(`blk.${layer}.ffn_gate_inp.weight`, [E, H]),
  f32(`blk.${layer}.ffn_gate_exps.weight`, [E, I, H], 1),
  f32(`blk.${layer}.ffn_up_exps.weight`, [E, I, H], 2),
  f32(`blk.${layer}.ffn_down_exps.weight`, [E, H, I], 3),
]

/** A file of Qwen3's architecture unless another is named. */
function model(
  tensors: readonly GgufTensor[] = experts(),
  metadata: Metadata = {},
  architecture = 'qwen3moe',
): GgufFile {
  return { keys: keysOf(architecture, { ...SIZES, ...metadata }), tensors }
}

const plan = (file: GgufFile, options: Parameters<typeof planLayer>[1] = {}) =>
  planLayer(writeGguf(file), options)

async function matricesOf(file: GgufFile) {
  const planned = await plan(file)
  const { experts: loaded, shared } = await loadMatrices(planned, 'f32')
  const read = (matrix: 'gate' | 'up' | 'down', rows: number, cols: number) =>
    loaded.map(expert => dense(expert[matrix]!, rows, cols))
  return { planned, shared, gate: read('gate', I, H), up: read('up', I, H), down: read('down', H, I) }
}

describe('tensors', () => {
  it('a tensor with gate and up, the rows of gate first', async () => {
    const apart = await matricesOf(model())
    const [router, gate, up, down] = experts()
    const half = (tensor: GgufTensor, e: number) => tensor.data.subarray(e * I * H * 4, (e + 1) * I * H * 4)
    const data = Buffer.concat(Array.from({ length: E }, (_, e) => [half(gate!, e), half(up!, e)]).flat())
    const both: GgufTensor = {
      name: 'blk.0.ffn_gate_up_exps.weight',
      type: 'F32',
      shape: [E, 2 * I, H],
      data,
    }
    const together = await matricesOf(model([router!, both, down!]))
    expect([together.gate, together.up, together.down]).toEqual([apart.gate, apart.up, apart.down])
  })

  it("a tensor for each expert, as in Mixtral's first files", async () => {
    const [router, ...stacked] = experts()
    const single = stacked.flatMap(({ name, shape, data }) =>
      Array.from({ length: E }, (_, e) => ({
        name: name.replace('_exps', `.${e}`),
        type: 'F32',
        shape: shape.slice(1),
        data: data.slice((e * data.length) / E, ((e + 1) * data.length) / E),
      })),
    )
    const old = await matricesOf(model([router!, ...single], {}, 'llama'))
    const now = await matricesOf(model(experts(), {}, 'llama'))
    expect(old.planned.config).toEqual(now.planned.config)
    expect([old.gate, old.up, old.down]).toEqual([now.gate, now.up, now.down])
  })

  it.each(ggmlGolden().filter(({ elements }) => elements <= 256))(
    'experts in $type have the values of ggml',
    async golden => {
      const { type, bytes, elements, stored, values } = golden
      // As many blocks as an expert takes, around and around; wide enough for every type.
      const [rows, cols] = [2, 256]
      const perMatrix = (rows * cols) / elements
      const blocksOf = (matrix: number) =>
        Array.from({ length: perMatrix }, (_, i) => (matrix * perMatrix + i) % 28)
      const quantised = (name: string, first: number, shape: number[]): GgufTensor => {
        const count = shape.reduce((product, length) => product * length, 1) / (rows * cols)
        const blocks = Array.from({ length: count }, (_, i) => blocksOf(first + i)).flat()
        return {
          ...{ name, type, shape },
          data: Buffer.concat(blocks.map(block => stored.subarray(block * bytes, (block + 1) * bytes))),
        }
      }
      const file = model(
        [
          f32('blk.0.ffn_gate_inp.weight', [E, 256]),
          quantised('blk.0.ffn_gate_exps.weight', 0, [E, rows, cols]),
          quantised('blk.0.ffn_up_exps.weight', 1, [E, rows, cols]),
          f32('blk.0.ffn_down_exps.weight', [E, 256, rows]),
        ],
        { embedding_length: 256 },
      )
      const planned = await plan(file)
      const { experts: loaded } = await loadMatrices(planned, 'f32')
      const valuesOf = (matrix: number) =>
        blocksOf(matrix).flatMap(block => [...values.subarray(block * elements, (block + 1) * elements)])
      for (const [e, expert] of loaded.entries()) {
        expect([...dense(expert.gate!, rows, cols)]).toEqual(valuesOf(e))
        expect([...dense(expert.up, rows, cols)]).toEqual(valuesOf(e + 1))
      }
    },
  )

  it('MXFP4 pairs elements 16 apart, not neighbours', async () => {
    // 2^0, codes 0 to 15 in the low nibbles and 15 to 0 in the high ones.
    const block = Uint8Array.of(127, ...Array.from({ length: 16 }, (_, j) => j | ((15 - j) << 4)))
    const data = Buffer.concat(new Array<Uint8Array>(E * I * (H / 32)).fill(block))
    const [router, , up, down] = experts()
    const gate = { name: 'blk.0.ffn_gate_exps.weight', type: 'MXFP4', shape: [E, I, H], data }
    const {
      gate: [first],
    } = await matricesOf(model([router!, gate, up!, down!]))
    const E2M1 = [0, 0.5, 1, 1.5, 2, 3, 4, 6, -0, -0.5, -1, -1.5, -2, -3, -4, -6]
    expect([...first!.subarray(0, 32)]).toEqual([...E2M1, ...[...E2M1].reverse()])
  })

  it.each(['blk.0.ffn_up_exps.scale', 'blk.0.ffn_up_exps.weight.scale'])(
    'NVFP4 with its factors in %s',
    async name => {
      const block = Uint8Array.of(0x38, 0x38, 0x40, 0x40, ...new Array<number>(32).fill(0x22))
      const [router, gate, , down] = experts()
      const data = Buffer.concat(new Array<Uint8Array>(E * I).fill(block))
      const up: GgufTensor = { name: 'blk.0.ffn_up_exps.weight', type: 'NVFP4', shape: [E, I, H], data }
      const scale: GgufTensor = { name, type: 'F32', shape: [E], data: bytesOf(Float32Array.of(2, 4, 0.5)) }
      const scaled = await matricesOf(model([router!, gate!, up, down!, scale]))
      // e2m1 2 is 1; e4m3 0x38 is 1 and 0x40 is 2.
      const row = (factor: number) => [...new Array(32).fill(factor), ...new Array(32).fill(2 * factor)]
      expect(scaled.up.map(matrix => [...matrix.subarray(0, H)])).toEqual([row(2), row(4), row(0.5)])
      const plain = await matricesOf(model([router!, gate!, up, down!]))
      expect([...plain.up[2]!.subarray(0, H)]).toEqual(row(1))
    },
  )

  it('the tensors of layers for multi-token prediction, which are never taken unasked', async () => {
    const file = model(experts(2), { block_count: 3, nextn_predict_layers: 1 })
    await expect(plan(file)).rejects.toMatchObject({ code: 'ERR_MOE_NOT_SPARSE' })
    expect((await plan(file, { layer: 2 })).layer).toBe(2)
    await expect(plan(file, { layer: 3 })).rejects.toMatchObject({ code: 'ERR_MOE_INVALID_ARG_VALUE' })
  })

  it('layers with experts are those that have their tensors', async () => {
    const file = model([...experts(1), f32('blk.0.ffn_up.weight', [4, H])])
    expect((await plan(file)).layer).toBe(1)
    await expect(plan(file, { layer: 0 })).rejects.toThrow(/layer 0 is dense; layers with experts: 1/)
  })

  it.each<[string, GgufFile, string, RegExp]>([
    [
      'no router',
      model(experts().slice(1)),
      'ERR_MOE_MISSING_TENSOR',
      /no tensor 'blk\.0\.ffn_gate_inp\.weight'/,
    ],
    ['no down', model(experts().slice(0, 3)), 'ERR_MOE_MISSING_TENSOR', /'blk\.0\.ffn_down_exps\.weight'/],
    [
      'experts the other way round',
      model([
        experts()[0]!,
        f32('blk.0.ffn_gate_exps.weight', [E, H, I]),
        f32('blk.0.ffn_up_exps.weight', [E, H, I]),
        f32('blk.0.ffn_down_exps.weight', [E, I, H]),
      ]),
      'ERR_MOE_TENSOR_MISMATCH',
      /ffn_gate_exps|ffn_up_exps|ffn_down_exps/,
    ],
    [
      'more experts than stated',
      model(experts(), { expert_count: E - 1 }),
      'ERR_MOE_TENSOR_MISMATCH',
      /of 2 experts|\[2, 64\]/,
    ],
    [
      'a selection bias that Qwen3 has not',
      model([...experts(), f32('blk.0.exp_probs_b.bias', [E])]),
      'ERR_MOE_INVALID_CONFIG',
      /holds 'blk\.0\.exp_probs_b\.bias'/,
    ],
    [
      'a shared expert that Qwen3 has not',
      model([...experts(), f32('blk.0.ffn_up_shexp.weight', [I, H])]),
      'ERR_MOE_INVALID_CONFIG',
      /holds 'blk\.0\.ffn_up_shexp\.weight'/,
    ],
    [
      'smaller experts in groups',
      model([...experts(), f32('blk.0.ffn_up_chexps.weight', [E, I, H])]),
      'ERR_MOE_INVALID_CONFIG',
      /ffn_up_chexps/,
    ],
    [
      'a norm of the experts',
      model([...experts(), f32('blk.0.ffn_norm_exps.weight', [H])]),
      'ERR_MOE_INVALID_CONFIG',
      /ffn_norm_exps/,
    ],
    [
      'a factor beside F32',
      model([...experts(), f32('blk.0.ffn_up_exps.scale', [E])]),
      'ERR_MOE_UNSUPPORTED_FORMAT',
      /has 'blk\.0\.ffn_up_exps\.scale' beside it/,
    ],
    [
      'a factor beside Q8_0',
      model([
        ...experts().slice(0, 3),
        {
          name: 'blk.0.ffn_down_exps.weight',
          type: 'Q8_0',
          shape: [E, H, I],
          data: new Uint8Array(E * H * 34),
        },
        f32('blk.0.ffn_down_exps.scale', [E]),
      ]),
      'ERR_MOE_UNSUPPORTED_FORMAT',
      /which only NVFP4 has/,
    ],
    [
      'experts in F64',
      model([
        ...experts().slice(0, 3),
        {
          name: 'blk.0.ffn_down_exps.weight',
          type: 'F64',
          shape: [E, H, I],
          data: new Uint8Array(E * H * I * 8),
        },
      ]),
      'ERR_MOE_UNSUPPORTED_FORMAT',
      /F64/,
    ],
  ])('%s', async (_, file, code, message) => {
    await expect(plan(file)).rejects.toMatchObject({ code, message: expect.stringMatching(message) })
  })

  it('norms, a dense MLP beside the experts and scales of activations change nothing', async () => {
    const more = [
      'ffn_norm.weight',
      'post_ffw_norm.weight',
      'ffn_up.weight',
      'ffn_up_exps.input_scale',
      'attn_norm.weight',
      'ffn_post_norm_1.weight',
    ]
    await plan(model([...experts(), ...more.map(name => f32(`blk.0.${name}`, [H]))]))
  })
})

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

describe('split files', () => {
  const split = (no: number, count: number, total: number): NonNullable<GgufFile['keys']> => [
    ['split.no', ggufScalar('u16', no)],
    ['split.count', ggufScalar('u16', count)],
    ['split.tensors.count', ggufScalar('i32', total)],
  ]
  /** Three shards of the model, in the directory of the first; `change` alters one of them. */
  function shards(change: (files: GgufFile[]) => void = () => {}, rename = (name: string) => name): string {
    const all = experts()
    const { keys } = model()
    const files: GgufFile[] = [
      { keys: [...keys!, ...split(0, 3, 4)], tensors: [] },
      { keys: split(1, 3, 4), tensors: all.slice(0, 3) },
      { keys: split(2, 3, 4), tensors: all.slice(3) },
    ]
    change(files)
    const nameOf = (index: number) => rename(`model-0000${index + 1}-of-00003.gguf`)
    const first = writeGguf(files[0]!, nameOf(0))
    for (const [index, file] of files.entries())
      if (index > 0) writeFileSync(path.join(path.dirname(first), nameOf(index)), ggufBytes(file))
    return first
  }

  it('are one model, given by the first shard or by their directory', async () => {
    const first = shards()
    for (const source of [first, path.dirname(first)]) {
      const planned = await planLayer(source)
      expect(planned.files.map(file => path.basename(file)).sort()).toEqual([
        'model-00002-of-00003.gguf',
        'model-00003-of-00003.gguf',
      ])
      const { experts: loaded } = await loadMatrices(planned, 'f32')
      expect(dense(loaded[1]!.down, H, I)).toEqual(floats(E * H * I, 3).slice(H * I, 2 * H * I))
    }
  })

  it.each<[string, () => string, string, RegExp]>([
    [
      'another shard than the first',
      () => shards().replace('00001-of', '00002-of'),
      'ERR_MOE_INVALID_CHECKPOINT',
      /is shard 2 of 3: give the first one, .*model-00001-of-00003/,
    ],
    [
      'a name that does not say it',
      () => shards(undefined, name => name.replace(/-of.*/, '.gguf')),
      'ERR_MOE_INVALID_CHECKPOINT',
      /is shard 1 of 3, which its name does not say.*model-00001-of-00003\.gguf/,
    ],
    [
      'a count that the name does not have',
      () => shards(files => (files[0] = { ...files[0], keys: [...model().keys!, ...split(0, 4, 4)] })),
      'ERR_MOE_INVALID_CHECKPOINT',
      /is shard 1 of 4, which its name does not say/,
    ],
    [
      'two shards with the same number',
      () => shards(files => (files[2] = { ...files[2], keys: split(1, 3, 4) })),
      'ERR_MOE_INVALID_CHECKPOINT',
      /by its keys it is shard 2 of 3 with 4 tensors, where shard 3 of 3/,
    ],
    [
      'a shard of another model',
      () => shards(files => (files[1] = { ...files[1], keys: split(1, 3, 5) })),
      'ERR_MOE_INVALID_CHECKPOINT',
      /with 5 tensors, where shard 2 of 3 with 4/,
    ],
    [
      'a shard that is none',
      () => shards(files => (files[1] = { ...files[1], keys: [] })),
      'ERR_MOE_INVALID_CHECKPOINT',
      /it is no shard/,
    ],
    [
      'a number beyond the count',
      () => shards(files => (files[1] = { ...files[1], keys: split(3, 3, 4) })),
      'ERR_MOE_INVALID_CONFIG',
      /split\.no must be an integer from 0 to 2/,
    ],
    [
      'a tensor in two shards',
      () => shards(files => (files[2] = { ...files[2], tensors: experts().slice(2) })),
      'ERR_MOE_INVALID_CHECKPOINT',
      /'blk\.0\.ffn_up_exps\.weight' is in .*00002-of-00003\.gguf too/,
    ],
    [
      'fewer tensors than stated',
      () => shards(files => (files[2] = { ...files[2], tensors: [] })),
      'ERR_MOE_INVALID_CHECKPOINT',
      /have 3 tensors, where split\.tensors\.count is 4/,
    ],
  ])('%s', async (_, make, code, message) => {
    await expect(planLayer(make())).rejects.toMatchObject({ code, message: expect.stringMatching(message) })
  })

  it('a shard that is not there', async () => {
    const first = shards(files => files.pop())
    await expect(planLayer(first)).rejects.toMatchObject({
      code: 'ERR_MOE_IO',
      message: expect.stringMatching(/00003-of-00003\.gguf.*shard 3 of 3: the download is not complete/),
    })
  })
})

describe('a file', () => {
  it('is known by its beginning, whatever it is called', async () => {
    const file = writeGguf(model(), 'sha256-1f2e')
    expect((await planLayer(file)).config.numExperts).toBe(E)
  })

  it('alone in a directory is that directory’s model', async () => {
    const file = writeGguf(model(), 'x-Q4_K_M.gguf')
    const directory = path.dirname(file)
    writeFileSync(path.join(directory, 'mmproj-f16.gguf'), ggufBytes(model([], {}, 'clip')))
    mkdirSync(path.join(directory, 'more'))
    expect((await planLayer(directory)).config.numExperts).toBe(E)
  })

  it('that ends early is refused before anything is read of it', async () => {
    const bytes = ggufBytes(model())
    const file = writeGguf(model())
    writeFileSync(file, bytes.subarray(0, bytes.length - 200))
    await expect(planLayer(file)).rejects.toMatchObject({
      code: 'ERR_MOE_INVALID_CHECKPOINT',
      message: expect.stringMatching(/lies outside of the file.*fetch the file again/),
    })
  })

  it.each(['reference', 'auto'] as const)(
    'loads and runs on %s, in bf16 unless asked otherwise',
    async device => {
      const file = writeGguf(model())
      const layer = await MoeLayer.load(file, { device })
      expect(layer.dtype).toBe('bf16')
      const { output } = await layer.forward(new Float32Array(2 * H).fill(0.25))
      expect(output.every(Number.isFinite)).toBe(true)
      layer.dispose()
    },
  )

  it.each(STORED_FORMATS.ggml.data)('in %s gives the bits of what it decodes to in F32', async type => {
    const [hidden, width] = [256, 256]
    const golden = ggmlGolden().find(item => item.type === type)!
    const matrix = (name: string, first: number): [GgufTensor, GgufTensor] => {
      const count = (E * hidden * width) / golden.elements
      const blocks = Array.from({ length: count }, (_, i) => 20 + ((first + i) % 8))
      const pick = (from: Uint8Array | Float32Array, size: number) =>
        blocks.map(block => from.subarray(block * size, (block + 1) * size))
      const values = Float32Array.from(
        (pick(golden.values, golden.elements) as Float32Array[]).flatMap(part => [...part]),
      )
      const shape = [E, width, hidden]
      return [
        { name, type, shape, data: Buffer.concat(pick(golden.stored, golden.bytes) as Uint8Array[]) },
        { name, type: 'F32', shape, data: bytesOf(values) },
      ]
    }
    const pairs = ['gate', 'up', 'down'].map((which, i) => matrix(`blk.0.ffn_${which}_exps.weight`, i))
    const router = f32('blk.0.ffn_gate_inp.weight', [E, hidden])
    const fileOf = (side: 0 | 1) =>
      writeGguf(model([router, ...pairs.map(pair => pair[side])], { embedding_length: hidden }))
    const hiddenStates = Float32Array.from({ length: 3 * hidden }, (_, i) => Math.sin(i))
    const outputs: Float32Array[] = []
    for (const side of [0, 1] as const) {
      const layer = await MoeLayer.load(fileOf(side), { device: 'auto', dtype: 'f32' })
      outputs.push((await layer.forward(hiddenStates)).output)
      layer.dispose()
    }
    expect(outputs[0]!.some(value => value !== 0 && Number.isFinite(value))).toBe(true)
    expect(outputs[0]).toEqual(outputs[1])
  })
})

describe('files of gguf-py, ggml’s own writer', () => {
  const folder = path.join(import.meta.dirname, '../golden/gguf-py')
  const expected = JSON.parse(readFileSync(path.join(folder, 'expected.json'), 'utf8')) as {
    tensors: { name: string }[]
    values: Record<string, { first: number[]; sha256: string }>
  }

  it('has the tensors where its reader finds them', async () => {
    const bytes = readFileSync(path.join(folder, 'whole.gguf'))
    const { tensors } = await readGgufHeader(memoryFile(bytes), bytes.length, 'whole.gguf')
    expect([...tensors.values()]).toEqual(expected.tensors)
  })

  it.each(['whole.gguf', 'split-00001-of-00002.gguf'])('%s has the values that it decodes', async name => {
    const planned = await planLayer(path.join(folder, name))
    expect(planned).toMatchObject({
      layer: 1,
      config: { family: 'qwen3_moe', numExperts: E, topK: K, hiddenSize: H },
    })
    const { experts: loaded } = await loadMatrices(planned, 'f32')
    for (const [matrix, rows, cols] of [
      ['gate', I, H],
      ['up', I, H],
      ['down', H, I],
    ] as const) {
      const values = new Float32Array(loaded.flatMap(expert => [...dense(expert[matrix]!, rows, cols)]))
      const { first, sha256 } = expected.values[`blk.1.ffn_${matrix}_exps.weight`]!
      expect([...values.subarray(0, 4)]).toEqual(first)
      expect(createHash('sha256').update(bytesOf(values)).digest('hex')).toBe(sha256)
    }
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
