/** A layer is found whatever wraps its model, and which of several models it belongs to is said or asked. */

import { afterAll, describe, expect, it } from 'vitest'
import { planLayer } from '../../lib/checkpoint/plan/layer.js'
import { goldenCase } from './cases.js'
import { expectSame, type Respelling, removeRespelled, renamed, respell } from './respelled.js'

afterAll(removeRespelled)

describe('what wraps a language model', () => {
  it.each(['', 'language_model.model.', 'model.language_model.', 'llm.model.'])("'%s'", async prefix =>
    expectSame(goldenCase('mixtral'), { tensors: renamed([/^model\./, prefix]) }),
  )

  const twice: Respelling['tensors'] = tensors => [
    ...tensors,
    ...renamed([/^model\./, 'other.model.'])(tensors),
  ]

  it('two candidates are an error that names both', async () => {
    const directory = await respell(goldenCase('mixtral'), { tensors: twice })
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
    await expectSame(goldenCase('qwen3_omni_moe'), { tensors: talker })
  })

  it.each(['model', 'other', 'other.model'])("module '%s' chooses where nothing else does", async module =>
    expectSame(goldenCase('mixtral'), { tensors: twice, module }),
  )

  it("module '' is the language model whose layers have nothing before them", async () => {
    const bare: Respelling['tensors'] = tensors => [...tensors, ...renamed([/^model\./, ''])(tensors)]
    await expectSame(goldenCase('mixtral'), { tensors: bare, module: '' })
  })

  it('a module chooses config and tensors, and what was chosen unasked is said', async () => {
    const { directory } = goldenCase('qwen3_omni_moe')
    const { config, notices } = await planLayer(directory, { layer: 1 })
    expect(config).toMatchObject({ family: 'qwen3_omni_moe', topK: 3 })
    expect(notices).toEqual([
      expect.stringMatching(/'talker\.model', 'thinker\.model': 'thinker\.model' is taken.*option module/),
    ])
    const { directory: other } = goldenCase('qwen3_omni_moe_talker')
    const talker = await planLayer(other, { layer: 1, module: 'talker' })
    expect(talker.config).toMatchObject({ family: 'qwen3_omni_moe_talker', topK: 2, numSharedExperts: 1 })
    expect(talker.notices).toEqual([])
    // The talker has three layers, the thinker fourteen.
    await expect(planLayer(other, { layer: 3, module: 'talker' })).rejects.toThrow(/from 0 to 2/)
  })

  it('a module that is not there is a RangeError that lists those that are', async () => {
    const { directory } = goldenCase('qwen3_omni_moe')
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
    await expectSame(goldenCase('qwen3_next'), { tensors: moved, layer: 14 })
    const beside: Respelling['tensors'] = tensors => [
      ...tensors,
      ...moved(tensors).filter(({ name }) => name.startsWith('mtp.')),
    ]
    await expectSame(goldenCase('qwen3_next'), { tensors: beside })
  })

  it('of DeepSeek-V4 are `mtp.N`', async () => {
    const moved = renamed([/^layers\.3\./, 'mtp.0.'])
    await expectSame(goldenCase('deepseek_v4'), { tensors: moved, layer: 14 })
  })

  it('that are dense, or not there, say so', async () => {
    const dense = renamed([/^model\.layers\.0\./, 'mtp.layers.0.'])
    const directory = await respell(goldenCase('qwen3_next'), { tensors: dense })
    await expect(planLayer(directory, { layer: 14 })).rejects.toMatchObject({ code: 'ERR_MOE_NOT_SPARSE' })
    await expect(planLayer(goldenCase('qwen3_next').directory, { layer: 14 })).rejects.toThrow(RangeError)
    await expect(planLayer(goldenCase('deepseek_v3').directory, { layer: 14 })).rejects.toMatchObject({
      code: 'ERR_MOE_MISSING_TENSOR',
    })
  })
})
