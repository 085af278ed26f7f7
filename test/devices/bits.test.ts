/** Bits that must not change on a card: with the batch, with graphs, with the way that a call is made. */

import { expect, it } from 'vitest'
import { DTYPES } from '../../lib/block/dtype.js'
import { MoeLayer } from '../../lib/index.js'
import { makeLayerData } from '../cases/layer-data.js'
import { counted, describeCuda, runFixture } from '../helpers/cuda.js'
import { type BatchReport, narrow } from './fixtures/batches.js'
import type { GraphReport } from './fixtures/graphs.js'

/** On an emulated card as large as a real one: what is split, and what that changes, depends on its multiprocessors. */
const compareBatches = (device: string, dtype: string, batchInvariant: boolean) =>
  runFixture<BatchReport>('batches', {
    SIMT_MULTIPROCESSORS: '108',
    DEVICE: device,
    DTYPE: dtype,
    BATCH_INVARIANT: batchInvariant ? '1' : '0',
  })

describeCuda('batches', device => {
  it.each([...DTYPES])(
    '%s with batchInvariant: a row alone gives the bits that it gives in any batch',
    async dtype => {
      const report = await compareBatches(device, dtype, true)
      expect(report).toEqual({ changed: [], differentSplit: [], split: '' })
    },
  )

  it.each([...DTYPES])('%s by default: only batches of another split may differ', async dtype => {
    const { changed, differentSplit, split } = await compareBatches(device, dtype, false)
    expect(changed.filter(batch => !differentSplit.includes(batch))).toEqual([])
    // Not for want of a split: the smallest calls have one, the largest none, and it does change bits.
    expect(split).toMatch(/K split in \d/)
    expect(differentSplit).toContain(65)
    expect(differentSplit).not.toContain(2)
    expect(changed).toContain(65)
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
