/** A selection bias holds numbers, or minus infinity for a masked expert: what else it holds is refused, on every device, from every way in. */

import path from 'node:path'
import { afterAll, describe, expect, it } from 'vitest'
import type { DeviceOption } from '../../lib/devices/device.js'
import { MoeLayer } from '../../lib/index.js'
import { goldenCases } from '../golden/cases.js'
import { removeRespelled, respell } from '../golden/respelled.js'
import { allDevices } from '../helpers/devices.js'

afterAll(removeRespelled)

const golden = goldenCases().find(({ name }) => name === 'glm4_moe_masked')!
const NAME = 'model.layers.1.mlp.gate.e_score_correction_bias'
const NUM_EXPERTS = 10
const HIDDEN = 4

/** Bias of the golden checkpoint, with `value` at experts 2 to 8. */
const withBias = (value: number) =>
  respell(golden, {
    tensors: tensors =>
      tensors.map(tensor => {
        if (tensor.name !== NAME) return tensor
        const bias = new Float32Array(Uint8Array.from(tensor.data as Uint8Array).buffer)
        return { ...tensor, data: bias.fill(value, 2, 9) }
      }),
  })

function create(device: DeviceOption, bias: Float32Array): MoeLayer {
  const matrix = () => new Float32Array(HIDDEN * HIDDEN).fill(0.5)
  return MoeLayer.create(
    {
      ...{ scoringFunc: 'sigmoid', numExperts: NUM_EXPERTS, topK: 3, normTopkProb: true },
      ...{ hiddenSize: HIDDEN, intermediateSize: HIDDEN },
    },
    {
      router: { weight: new Float32Array(NUM_EXPERTS * HIDDEN), selectionBias: bias },
      experts: Array.from({ length: NUM_EXPERTS }, () => ({ gate: matrix(), up: matrix(), down: matrix() })),
    },
    { device },
  )
}

describe.each(allDevices)('%s', name => {
  const device = name as DeviceOption

  it.each([Number.NaN, Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY])('%d is refused', async value => {
    const directory = await withBias(value)
    const loaded = MoeLayer.load(directory, { device, layer: 1 })
    await expect(loaded).rejects.toMatchObject({
      code: 'ERR_MOE_INVALID_CHECKPOINT',
      message: expect.stringContaining(NAME),
      details: { tensor: NAME, file: path.join(directory, 'model.safetensors') },
    })
    const bias = new Float32Array(NUM_EXPERTS).fill(value, 0, 8)
    expect(() => create(device, bias)).toThrow(
      expect.objectContaining({
        code: 'ERR_MOE_INVALID_CHECKPOINT',
        message: expect.stringContaining('selectionBias'),
      }),
    )
  })

  it('masked experts are never chosen, the others by their scores', () => {
    const bias = new Float32Array(NUM_EXPERTS).fill(Number.NEGATIVE_INFINITY, 2, 9)
    using layer = create(device, bias)
    // All scores are equal: the lowest indices of those that are not masked.
    const { topkIds, nonFiniteRows } = layer.forwardSync(new Float32Array(2 * HIDDEN).fill(1))
    expect(Array.from(topkIds)).toEqual([0, 1, 9, 0, 1, 9])
    expect(nonFiniteRows).toHaveLength(0)
  })
})
