/** Bits of a GPU's forwards, launched one by one and replayed as graphs. */

import { expect, it } from 'vitest'
import { MoeLayer } from '../../lib/index.js'
import { makeLayerData } from '../cases/layer-data.js'
import { counted, describeCuda, runFixture } from '../helpers/cuda.js'
import { narrow } from './fixtures/batches.js'
import type { GraphReport } from './fixtures/graphs.js'

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

  it('serve other sizes, other compute budgets and another layer in between', async () => {
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
