/** Every architecture: a golden layer as a GGUF file is the same layer, bit for bit, and gives the golden values. */

import { afterAll, describe, expect, it } from 'vitest'
import { ARCHITECTURES } from '../../lib/checkpoint/gguf/architectures.js'
import { planLayer } from '../../lib/checkpoint/plan/layer.js'
import type { WritableTensor } from '../../lib/checkpoint/writer.js'
import { assembleWeights } from '../../lib/devices/reference/assemble.js'
import { reference } from '../../lib/reference/index.js'
import { BOUNDS } from '../cases/index.js'
import type { GgufTensor } from '../helpers/gguf-writer.js'
import { expectClose } from '../helpers/relative-error.js'
import { goldenCases } from './cases.js'
import { GGUF_CASES } from './gguf-cases.js'
import { dense, ggufOf, type LayerValues, removeGguf, valuesOf, writeGguf } from './gguf-layer.js'
import { tensorsOf } from './respelled.js'

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

/** Rows of a tensor `[E, rows, groups, 16]` of pairs, and their scales, as llama.cpp's converter packs them: elements 16 apart share a byte. */
function mxfp4(blocks: WritableTensor, scales: WritableTensor, name: string, rowsOf?: 0 | 1): GgufTensor {
  const [numExperts, numRows, numGroups] = blocks.shape as [number, number, number]
  const [bytes, exponents] = [blocks.data, scales.data] as [Uint8Array, Uint8Array]
  const out: number[] = []
  for (let row = 0; row < numExperts * numRows; row++) {
    // Gate and up alternate.
    if (rowsOf !== undefined && row % 2 !== rowsOf) continue
    for (let group = 0; group < numGroups; group++) {
      const at = row * numGroups + group
      const codes = Array.from(bytes.subarray(16 * at, 16 * at + 16)).flatMap(byte => [byte & 15, byte >> 4])
      out.push(exponents[at]!)
      for (let j = 0; j < 16; j++) out.push(codes[j]! | (codes[j + 16]! << 4))
    }
  }
  const shape = [numExperts, rowsOf === undefined ? numRows : numRows / 2, 32 * numGroups]
  return { name, type: 'MXFP4', shape, data: Uint8Array.from(out) }
}

it('gpt-oss in MXFP4 is the same layer in safetensors and in GGUF', async () => {
  const golden = GOLDEN.get('gpt_oss_mxfp4')!
  const { expected, directory } = golden
  const ggufCase = { golden: golden.name, architecture: 'gpt-oss', metadata: () => ({}) }
  const { file, plan: published, values } = await ggufOf(golden, ggufCase)
  const stored = new Map(tensorsOf(directory).map(tensor => [tensor.name, tensor]))
  const below = `model.layers.${expected.layer}.mlp.experts.`
  const packed = (which: string, name: string, rowsOf?: 0 | 1) =>
    mxfp4(
      stored.get(`${below}${which}_proj_blocks`)!,
      stored.get(`${below}${which}_proj_scales`)!,
      `blk.${expected.layer}.ffn_${name}_exps.weight`,
      rowsOf,
    )
  const replaced = [packed('gate_up', 'gate', 0), packed('gate_up', 'up', 1), packed('down', 'down')]
  const names = new Set(replaced.map(({ name }) => name))
  const tensors = [...file.tensors!.filter(({ name }) => !names.has(name)), ...replaced]
  const plan = await planLayer(writeGguf({ ...file, tensors }), { layer: expected.layer })
  expect(plan.config).toEqual(published.config)
  const { vectors, matrices } = await valuesOf(plan)
  expect(vectors).toEqual(values.vectors)
  const { hiddenSize, intermediateSize } = plan.config
  for (const [e, expert] of matrices.experts.entries()) {
    for (const matrix of ['gate', 'up', 'down'] as const) {
      const [rows, cols] = matrix === 'down' ? [hiddenSize, intermediateSize] : [intermediateSize, hiddenSize]
      const other = values.matrices.experts[e]![matrix]!
      expect(dense(expert[matrix]!, rows, cols)).toEqual(dense(other, rows, cols))
    }
  }
})
