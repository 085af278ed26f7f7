/** Bits that must not change on a card: with the batch, with graphs, with the way that a call is made. */

import { expect, it } from 'vitest'
import { DTYPES, type DType } from '../../lib/dtype.js'
import { type DeviceOption, MoeLayer } from '../../lib/index.js'
import type { LayerCase } from '../cases.js'
import { counted, describeCuda, runFixture } from '../helpers/cuda.js'
import { makeLayerData } from '../helpers/layer-data.js'
import type { GraphReport } from './fixtures/graphs.js'

/** Long sums and few columns: on any card a single row is worth splitting. */
const narrow: LayerCase = {
  name: 'narrow',
  config: {
    hiddenSize: 512,
    intermediateSize: 256,
    numExperts: 8,
    topK: 2,
    scoringFunc: 'softmax',
    normTopkProb: true,
  },
  numTokens: 65,
  load: 'gate',
}

/** Whether each row of the batches has the bits that it has alone. */
function changedBatches(device: DeviceOption, dtype: DType, batchInvariant: boolean, batches: number[]) {
  const { config, weights, hidden } = makeLayerData(narrow, dtype)
  using layer = MoeLayer.create(config, weights, { device, dtype, batchInvariant })
  const { hiddenSize } = config
  const rowOf = (array: Float32Array, row: number) => array.slice(row * hiddenSize, (row + 1) * hiddenSize)
  const alone = Array.from(
    { length: narrow.numTokens },
    (_, row) => layer.forwardSync(rowOf(hidden, row)).output,
  )
  const splitOf = (numTokens: number) =>
    layer
      .explain(numTokens)
      .stages.flatMap(({ kernel }) => kernel.match(/K split in \d+/g) ?? [])
      .join()
  const changed = batches.filter(batch => {
    const { output } = layer.forwardSync(hidden.subarray(0, batch * hiddenSize))
    return Array.from({ length: batch }).some(
      (_, row) =>
        Buffer.compare(Buffer.from(rowOf(output, row).buffer), Buffer.from(alone[row]!.slice().buffer)) !== 0,
    )
  })
  return {
    changed,
    differentSplit: batches.filter(batch => splitOf(batch) !== splitOf(1)),
    split: splitOf(1),
  }
}

const BATCHES = [2, 5, 8, 9, 16, 17, 33, 65]

describeCuda('batches', device => {
  it.each([...DTYPES])(
    '%s with batchInvariant: a row alone gives the bits that it gives in any batch',
    dtype => {
      expect(changedBatches(device, dtype, true, BATCHES)).toEqual({
        changed: [],
        differentSplit: [],
        split: '',
      })
    },
  )

  it.each([...DTYPES])('%s by default: only batches of another split may differ', dtype => {
    const { changed, differentSplit } = changedBatches(device, dtype, false, BATCHES)
    expect(changed.filter(batch => !differentSplit.includes(batch))).toEqual([])
    if (dtype === 'f32') expect(differentSplit).toEqual([])
  })
})

describeCuda('graphs', device => {
  it('give the bits of single launches', async () => {
    const report = (env: NodeJS.ProcessEnv) => runFixture<GraphReport>('graphs', { ...env, DEVICE: device })
    const replayed = await report({ SPARSE_EXPERTS_CUDA_GRAPHS: '1' })
    const launched = await report({ SPARSE_EXPERTS_CUDA_GRAPHS: '0' })
    expect(replayed.digests).toEqual(launched.digests)
    expect(replayed.counters.graphReplays).toBeGreaterThan(0)
    expect(launched.counters).toMatchObject({ graphReplays: 0, graphCaptures: 0 })
    expect(launched.counters.kernelLaunches).toBeGreaterThan(replayed.counters.kernelLaunches)
  })

  it('serve other sizes, other dials and another layer in between', async () => {
    const { config, weights, hidden } = makeLayerData(narrow, 'f32')
    using layer = MoeLayer.create(config, weights, { device })
    using other = MoeLayer.create(config, weights, { device })
    const rows = (count: number) => hidden.subarray(0, count * config.hiddenSize)
    const calls = [
      () => layer.forwardSync(rows(1)),
      () => layer.forwardSync(rows(7)),
      () => layer.forwardSync(rows(7), { topK: 1 }),
      () => layer.forwardSync(rows(7), { topP: 0.6 }),
      () => layer.forwardSync(rows(7), { topK: Uint8Array.of(0, 1, 2, 0, 1, 2, 2) }),
      () => other.forwardSync(rows(3)),
    ]
    const first = calls.map(call => call())
    for (let round = 0; round < 4; round++) {
      const moved = await counted(device, () => {
        for (const [i, call] of calls.entries()) {
          const { output, topkIds, topkWeights } = call()
          expect(output, `call ${i}, round ${round}`).toEqual(first[i]!.output)
          expect(topkIds).toEqual(first[i]!.topkIds)
          expect(topkWeights).toEqual(first[i]!.topkWeights)
        }
      })
      if (round === 3) expect(moved.deviceAllocations).toBe(0)
    }
  })
})
