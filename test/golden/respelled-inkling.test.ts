/** Inkling in NVFP4 loads as each of its publications spells it. */

import { afterAll, describe, expect, it } from 'vitest'
import { planLayer } from '../../lib/checkpoint/plan/layer.js'
import type { WritableTensor } from '../../lib/checkpoint/writer.js'
import { goldenCase } from './cases.js'
import { expectSame, type Respelling, removeRespelled, renamed, respell, unfused } from './respelled.js'

afterAll(removeRespelled)

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
    await expectSame(goldenCase('inkling_nvfp4'), { tensors: tensors => factors(scales(weights(tensors))) })
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
    const directory = await respell(goldenCase('inkling_nvfp4'), {
      tensors: tensors => names(inHalves(tensors)),
    })
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
    await expectSame(goldenCase('inkling_nvfp4'), { tensors: tensors => names(inHalves(shared(tensors))) })
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
    await expectSame(goldenCase('inkling_nvfp4'), { tensors: tensors => names(divided(tensors)) })
  })
})
