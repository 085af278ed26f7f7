/** Bits that must not change: with threads, with the batch a row is in, from run to run, with options that say nothing. */

import { describe, expect, it } from 'vitest'
import { DTYPES } from '../../lib/block/dtype.js'
import { MoeLayer } from '../../lib/index.js'
import { FAMILY_CASES, type LayerCase } from '../cases/index.js'
import { makeLayerData } from '../cases/layer-data.js'
import { Random } from '../cases/random.js'
import { nativeDevices, underDetectors } from '../helpers/devices.js'
import { expectSame } from '../helpers/same.js'

const wide: LayerCase = {
  name: 'bitwise',
  config: {
    hiddenSize: 152,
    intermediateSize: 104,
    numExperts: 24,
    topK: 5,
    scoringFunc: 'sigmoid',
    normTopkProb: true,
    numSharedExperts: 1,
  },
  numTokens: underDetectors ? 33 : 129,
  load: 'gate',
  with: ['selectionBias'],
}
const BATCHES = [2, 3, 4, 5, 6, 7, 8, 9, 12, 13, 16, 17, 31, 32, 33, 64, 65, 129]
const RUNS = underDetectors ? 10 : 100

for (const device of nativeDevices) {
  const options = { device: device as 'cpu' }
  // Always so on 'cpu'; small batches on 'cuda' are else cut along K.
  const invariant = { ...options, batchInvariant: true }
  describe.each([...DTYPES])(`bitwise on ${device}, %s`, dtype => {
    it('any number of threads gives the same bits', () => {
      const { config, weights, hidden } = makeLayerData(wide, dtype)
      const outputs = [1, 2, 3, 4].map(threads => {
        using layer = MoeLayer.create(config, weights, { ...options, dtype, threads })
        return layer.forwardSync(hidden).output
      })
      for (const output of outputs) expectSame(output, outputs[0]!)
    })

    it('a row alone gives the bits that it gives inside any batch', () => {
      const { config, weights, hidden } = makeLayerData(wide, dtype)
      using layer = MoeLayer.create(config, weights, { ...invariant, dtype })
      const { hiddenSize } = config
      const rowOf = (array: Float32Array, row: number) =>
        array.subarray(row * hiddenSize, (row + 1) * hiddenSize)
      const alone = Array.from({ length: wide.numTokens }, (_, row) =>
        layer.forwardSync(rowOf(hidden, row)).output.slice(),
      )
      for (const batch of BATCHES.filter(size => size <= wide.numTokens)) {
        const { output } = layer.forwardSync(hidden.subarray(0, batch * hiddenSize))
        for (let row = 0; row < batch; row++)
          expectSame(rowOf(output, row), alone[row]!, `row ${row} of ${batch}`)
      }
      const order = new Random(3).permutation(wide.numTokens)
      const shuffled = new Float32Array(hidden.length)
      for (const [to, from] of order.entries()) shuffled.set(rowOf(hidden, from), to * hiddenSize)
      const { output } = layer.forwardSync(shuffled)
      for (const [to, from] of order.entries()) expectSame(rowOf(output, to), alone[from]!)
    })

    it(`${RUNS} runs and the asynchronous path give the same bits`, async () => {
      const { config, weights, hidden } = makeLayerData({ ...wide, numTokens: 17 }, dtype)
      using layer = MoeLayer.create(config, weights, { ...options, dtype })
      const first = layer.forwardSync(hidden)
      for (let run = 0; run < RUNS; run++) expectSame(layer.forwardSync(hidden).output, first.output)
      const queued = await layer.forward(hidden)
      expectSame(queued.output, first.output)
      expectSame(queued.topkIds, first.topkIds)
      expectSame(queued.topkWeights, first.topkWeights)
    })
  })

  describe(`the compute budget on ${device}`, () => {
    const cases = FAMILY_CASES.filter(layerCase => layerCase.config.capacity === undefined)

    it.each(cases)('$name: topK = config.topK and topP = 1 change no bit', layerCase => {
      const { config, weights, hidden, options: call } = makeLayerData(layerCase, 'f32')
      using layer = MoeLayer.create(config, weights, options)
      const plain = layer.forwardSync(hidden, call)
      const rows = new Uint8Array(layerCase.numTokens).fill(config.topK)
      for (const computeBudget of [{ topK: config.topK }, { topP: 1 }, { topK: rows }]) {
        const reduced = layer.forwardSync(hidden, { ...call, ...computeBudget })
        expectSame(reduced.output, plain.output)
        expectSame(reduced.topkIds, plain.topkIds)
        expectSame(reduced.topkWeights, plain.topkWeights)
      }
    })

    it.each(cases)('$name: row i of a mixed batch equals row i alone with its own topK', layerCase => {
      const { config, weights, hidden, options: call } = makeLayerData(layerCase, 'f32')
      using layer = MoeLayer.create(config, weights, invariant)
      const { hiddenSize, topK } = config
      const rows = Uint8Array.from({ length: layerCase.numTokens }, (_, row) => row % (topK + 1))
      const mixed = layer.forwardSync(hidden, { ...call, topK: rows })
      const trained = layer.forwardSync(hidden, call)
      rows.forEach((rowTopK, row) => {
        const slice = <A extends Float32Array | Int32Array>(array: A, width: number) =>
          array.subarray(row * width, (row + 1) * width) as A
        const alone = layer.forwardSync(slice(hidden, hiddenSize), {
          topK: rowTopK,
          ...(call.tokenIds ? { tokenIds: slice(call.tokenIds, 1) } : {}),
          ...(call.routerInput ? { routerInput: slice(call.routerInput as Float32Array, hiddenSize) } : {}),
        })
        expectSame(slice(mixed.output, hiddenSize), alone.output)
        const kept = [...slice(mixed.topkIds, topK)].slice(0, rowTopK)
        expect(kept, 'a prefix of the trained ranking').toEqual(
          [...slice(trained.topkIds, topK)].slice(0, rowTopK),
        )
        expect([...slice(mixed.topkIds, topK)].slice(rowTopK)).toEqual(new Array(topK - rowTopK).fill(-1))
        expect([...slice(mixed.topkWeights, topK)].slice(rowTopK)).toEqual(new Array(topK - rowTopK).fill(0))
      })
    })
  })
}
