/** What a device allocates: nothing in the steady state, nothing that stays, and a typed error when there is none left. */

import { mkdtemp, rm } from 'node:fs/promises'
import os from 'node:os'
import path from 'node:path'
import { afterAll, beforeAll, expect, it } from 'vitest'
import { writeCheckpoint } from '../../examples/demo/write-checkpoint.js'
import { type MoeConfig, type MoeError, MoeLayer, type MoeWeights, Tensor } from '../../lib/index.js'
import {
  counted,
  counters,
  describeCuda,
  onEmulator,
  runFixture,
  settledDeviceBytes,
} from '../helpers/cuda.js'
import { withoutCuda } from '../helpers/devices.js'
import { TINY } from '../helpers/scratch.js'
import { tinyCase, tinyLayer } from '../helpers/tiny-layer.js'
import type { SmallCardReport } from './fixtures/small-card.js'
import type { StagingReport } from './fixtures/staging.js'

let checkpoint: string
beforeAll(async () => {
  if (withoutCuda) return
  checkpoint = await mkdtemp(path.join(os.tmpdir(), 'sparse-experts-cuda-'))
  await writeCheckpoint(checkpoint, TINY)
})
afterAll(async () => {
  if (checkpoint) await rm(checkpoint, { recursive: true, force: true })
})

describeCuda('the steady state', device => {
  it('allocates nothing and replays graphs', async () => {
    const { layer, hidden } = tinyLayer({ device })
    using _ = layer
    const run = async (count: number) => {
      for (let i = 0; i < count; i++) {
        await layer.forward(hidden)
        layer.forwardSync(hidden.subarray(0, 32))
      }
    }
    await run(4)
    const moved = await counted(device, () => run(25))
    expect(moved.deviceAllocations).toBe(0)
    expect(moved.deviceBytes).toBe(0)
    if (process.env.SPARSE_EXPERTS_CUDA_GRAPHS === '0') return
    expect(moved).toMatchObject({ graphCaptures: 0, graphReplays: 50, kernelLaunches: 0 })
  })

  it('stages the arrays of small calls where it copies from and to, whatever the number of layers', async () => {
    const oneBlock = 64 << 10
    const { alone, beside, ofFour } = await runFixture<StagingReport>('staging', { DEVICE: device })
    expect(alone).toBe(oneBlock)
    // A call that comes while another has the block brings memory of its own.
    expect(beside).toBe(2 * oneBlock)
    expect(ofFour).toBe(2 * oneBlock)
  })

  it('allocates nothing for tensors that the caller owns', async () => {
    const { layer, hidden, config } = tinyLayer({ device })
    using _ = layer
    using tensor = Tensor.from(hidden, [6, config.hiddenSize], { device })
    using output = Tensor.from(hidden, [6, config.hiddenSize], { device })
    for (let i = 0; i < 4; i++) await layer.forward(tensor, { output })
    const moved = await counted(device, async () => {
      for (let i = 0; i < 25; i++) await layer.forward(tensor, { output })
    })
    expect(moved.deviceAllocations).toBe(0)
  })

  it('shares one workspace among the layers of the device', async () => {
    const layers = Array.from({ length: 3 }, () => tinyLayer({ device }))
    const before = layers[0]!.layer.stats().workspaceBytes
    for (const { layer, hidden } of layers) await layer.forward(hidden)
    const planned = layers[0]!.layer.explain(tinyCase.numTokens).workspaceBytes
    for (const { layer } of layers) {
      const { workspaceBytes } = layer.stats()
      expect(workspaceBytes).toBe(Math.max(before, planned))
    }
    for (const { layer } of layers) layer.dispose()
  })
})

describeCuda('device memory', device => {
  it('is given back by dispose, whatever was done with the layer', async () => {
    const keeper = tinyLayer({ device })
    await keeper.layer.forward(keeper.hidden)
    const before = await settledDeviceBytes(device)
    for (let round = 0; round < 3; round++) {
      const { layer, hidden } = tinyLayer({ device })
      const held = counters(device).deviceBytes - before
      expect(held).toBeGreaterThanOrEqual(layer.stats().deviceBytes)
      await layer.forward(hidden)
      const last = layer.forward(hidden)
      layer.dispose()
      await last
      const loaded = await MoeLayer.load(checkpoint, { device, layer: 1 })
      expect(loaded.stats().deviceBytes).toBeGreaterThanOrEqual(loaded.explain(1).residentBytes)
      await loaded[Symbol.asyncDispose]()
      expect(counters(device).deviceBytes, `round ${round}`).toBe(before)
    }
    keeper.layer.dispose()
  })

  it('is given back by a load that is aborted', async () => {
    const before = await settledDeviceBytes(device)
    const abort = new AbortController()
    const loading = MoeLayer.load(checkpoint, {
      device,
      layer: 1,
      signal: abort.signal,
      onProgress: ({ loadedBytes }) => {
        if (loadedBytes > 0) abort.abort(new Error('enough'))
      },
    })
    await expect(loading).rejects.toThrow('enough')
    expect(counters(device).deviceBytes).toBe(before)
  })

  it('that is not there is a typed error with figures, and the device goes on', async () => {
    const { layer, hidden } = tinyLayer({ device })
    using _ = layer
    const expected = await layer.forward(hidden)
    const before = await settledDeviceBytes(device)
    // Far beyond any card; the matrices are never made.
    const size = 2 ** 20
    const numExperts = 8
    const config: MoeConfig = {
      scoringFunc: 'softmax',
      normTopkProb: true,
      numExperts,
      topK: 2,
      hiddenSize: size,
      intermediateSize: size,
    }
    const matrix = { data: new Float32Array(1), shape: [size, size], strides: [0, 0] } as const
    const weights: MoeWeights = {
      router: { weight: new Float32Array(numExperts * size) },
      experts: Array.from({ length: numExperts }, () => ({ gate: matrix, up: matrix, down: matrix })),
    }
    let error: MoeError | undefined
    try {
      MoeLayer.create(config, weights, { device })
    } catch (thrown) {
      error = thrown as MoeError
    }
    expect(error).toMatchObject({ code: 'ERR_MOE_OUT_OF_MEMORY' })
    const { neededBytes, freeBytes } = error!.details as { neededBytes: number; freeBytes: number }
    expect(neededBytes).toBeGreaterThan(freeBytes)
    expect(freeBytes).toBeGreaterThan(0)
    expect(counters(device).deviceBytes).toBe(before)
    expect((await layer.forward(hidden)).output).toEqual(expected.output)
    expect(layer.health()).toEqual({ status: 'ready' })
  })

  it.skipIf(!onEmulator)('that runs out in the middle of a call fails that call alone', async () => {
    const report = await runFixture<SmallCardReport>('small-card', {
      SIMT_MEMORY_BYTES: String(6 << 20),
    })
    expect(report).toMatchObject({
      bigCall: 'ERR_MOE_OUT_OF_MEMORY',
      bigCallAsync: 'ERR_MOE_OUT_OF_MEMORY',
      bigTensor: 'ERR_MOE_OUT_OF_MEMORY',
      health: 'ready',
      sameBits: true,
    })
    expect(report.neededBytes).toBeGreaterThan(report.freeBytes)
  })
})
