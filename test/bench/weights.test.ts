/** The weights of the benchmarks: as large as published ones of their kind, and of values that a network has. */

import { describe, expect, it } from 'vitest'
import { randomStored } from '../../bench/harness/stored-weights.js'
import { ggmlTypeOf, layerStoredBytes, STORED_FORMS, storedBytes } from '../../bench/harness/weight-kinds.js'
import { makeBenchWeights } from '../../bench/harness/weights.js'
import { dequantize, devices, type MoeConfig, MoeLayer, type QuantizedMatrix } from '../../lib/index.js'
import { Random } from '../cases/random.js'

describe.each(STORED_FORMS)('random weights in %s', form => {
  const [rows, cols] = [160, 512]
  const matrix = randomStored(form, rows, cols, new Random(1))
  const values = dequantize(matrix, rows, cols)

  it('have the bytes of the form', () => {
    const scales = (matrix.scales?.length ?? 0) * 4
    expect(matrix.data.byteLength + scales).toBe(storedBytes(form, rows, cols))
  })

  it('are numbers around 0 with a variance of 1 / columns, and differ from row to row', () => {
    const mean = values.reduce((a, b) => a + b, 0) / values.length
    const variance = values.reduce((sum, value) => sum + (value - mean) ** 2, 0) / values.length
    expect(Math.abs(mean)).toBeLessThan(0.15 * cols ** -0.5)
    // Codes of Q4_0 from −8 to 7 have a mean of −1/2, a ninth of their deviation. MXFP4's scales are powers of two: up to √2 off, twice that squared.
    expect(variance * cols).toBeGreaterThan(0.45)
    expect(variance * cols).toBeLessThan(2.2)
    expect(values.subarray(0, cols)).not.toEqual(values.subarray(cols, 2 * cols))
  })
})

// Bits per weight as ggml's headers have them: 18, 17 and 34 bytes of 32, 144 of 256.
it.each([
  ['q4_0', 4.5],
  ['q4_K', 4.5],
  ['mxfp4', 4.25],
  ['q8_0', 8.5],
  ['bf16', 16],
  ['f32', 32],
] as const)('%s takes %d bits', (kind, bits) => {
  expect((8 * storedBytes(kind, 3, 256)) / (3 * 256)).toBe(bits)
})

it('takes Q5_0 for rows that are no blocks of Q4_K, as llama.cpp does', () => {
  expect([ggmlTypeOf('q4_K', 1408), ggmlTypeOf('q4_K', 2048)]).toEqual(['q5_0', 'q4_K'])
  expect(storedBytes('q4_K', 32, 1408)).toBe((22 * 32 * 1408) / 32)
})

const hasCpu = devices().some(({ id, available }) => id === 'cpu' && available)
if (!hasCpu) console.warn('skipped, no addon: codes as a layer holds them')

it.skipIf(!hasCpu)('are held by a layer as they are', async () => {
  const config: MoeConfig = {
    ...{ hiddenSize: 256, intermediateSize: 96, numExperts: 4, topK: 2, numSharedExperts: 1 },
    ...{ scoringFunc: 'softmax', normTopkProb: true },
  }
  for (const form of STORED_FORMS) {
    const { weights } = makeBenchWeights({ name: form, config }, form)
    const layer = await MoeLayer.create(config, weights, { device: 'cpu', weights: 'stored' })
    const down = form === 'q4_K' ? 'q5_0' : form === 'fp8' ? 'fp8 128x128' : form
    expect(layer.weightFormat.down).toMatchObject({ stored: down })
    expect(layer.weightFormat.shared!.down).toMatchObject({ stored: down })
    layer.dispose()
    const bytes = [...weights.experts, weights.shared!]
      .flatMap(({ gate, up, down: last }) => [gate, up, last] as QuantizedMatrix[])
      .reduce((sum, { data, scales }) => sum + data.byteLength + (scales?.byteLength ?? 0), 0)
    expect(layerStoredBytes(config, form)).toBe(bytes + 4 * 4 * 256)
  }
})
