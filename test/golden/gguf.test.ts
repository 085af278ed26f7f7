/** Every architecture: a golden layer as a GGUF file is the same layer, bit for bit, and gives the golden values. */

import { afterAll, describe, expect, it } from 'vitest'
import { ARCHITECTURES } from '../../lib/checkpoint/gguf/architectures.js'
import { planLayer } from '../../lib/checkpoint/plan/layer.js'
import { assembleWeights } from '../../lib/devices/reference/runtime.js'
import { reference } from '../../lib/reference/index.js'
import { BOUNDS } from '../cases/index.js'
import { expectClose } from '../helpers/relative-error.js'
import { goldenCases } from './cases.js'
import { GGUF_CASES } from './gguf-cases.js'
import { ggufOf, type LayerValues, removeGguf, valuesOf, writeGguf } from './gguf-layer.js'

afterAll(removeGguf)

const GOLDEN = new Map(goldenCases().map(golden => [golden.name, golden]))

it('has a case of every architecture', () => {
  const without = ARCHITECTURES.filter(name => !GGUF_CASES.some(({ architecture }) => architecture === name))
  // The blocks of DeepSeek's first model and of its OCR model are that of DeepSeek-V2.
  expect(without).toEqual(['deepseek', 'deepseek2-ocr'])
})

describe.each(GGUF_CASES)('$golden as $architecture', ggufCase => {
  it('is the same layer', async () => {
    const { family, config } = ggufCase
    const golden = GOLDEN.get(ggufCase.golden)!
    const { expected } = golden
    const { file, plan: published, values } = await ggufOf(golden, ggufCase)
    const plan = await planLayer(writeGguf(file), { layer: expected.layer, config })
    expect(plan.storedDtype).toBe('bf16')
    expect(plan.config).toEqual({ ...published.config, ...(family ? { family } : {}) })
    const { vectors, matrices } = await valuesOf(plan)
    expect(vectors).toEqual(values.vectors)
    const { input, tokenIds, routerInput } = expected
    const run = (of: LayerValues) =>
      reference.forward(plan.config, assembleWeights(plan.config, 'f32', of.vectors, of.matrices), input, {
        tokenIds,
        routerInput,
      })
    const result = run({ vectors, matrices })
    expect(result.output).toEqual(run(values).output)
    expect(Array.from(result.topkIds)).toEqual(expected.topkIds)
    expectClose(result.topkWeights, expected.topkWeights, BOUNDS.f32, 'weights')
    expectClose(result.output, expected.output, BOUNDS.f32, 'output')
  })
})
