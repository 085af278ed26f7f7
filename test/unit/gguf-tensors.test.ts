/** Tensors of GGUF files: the names and forms that llama.cpp's converters write, and what is refused. */

import { afterAll, describe, expect, it } from 'vitest'
import { loadMatrices } from '../../lib/checkpoint/load/matrices.js'
import { dense, removeGguf } from '../golden/gguf-layer.js'
import { ggmlGolden } from '../helpers/ggml-golden.js'
import { bytesOf, E, experts, f32, H, I, matricesOf, model, plan } from '../helpers/gguf-model.js'
import type { GgufFile, GgufTensor } from '../helpers/gguf-writer.js'

afterAll(removeGguf)

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
