/** A card shared by threads, and threads that end in the middle of its work. */

import { once } from 'node:events'
import { setTimeout as sleep } from 'node:timers/promises'
import { Worker } from 'node:worker_threads'
import { expect, it } from 'vitest'
import { loadNative } from '../../lib/devices/native/addon.js'
import { counters, describeCuda, settledDeviceBytes } from '../helpers/cuda.js'
import { forward, makeLayer, makeRequest } from './fixtures/layer.mjs'

function startWorker(workerData: object): Worker {
  return new Worker(new URL('fixtures/worker.mjs', import.meta.url), { workerData })
}

describeCuda('workers', device => {
  it('share the card with the main thread', async () => {
    const { layer, config } = makeLayer(loadNative(), undefined, { device })
    const expected = makeRequest(config, 40)
    layer.forwardSync(expected)
    const results = [false, true].map(async sync => {
      const worker = startWorker({ tokens: 40, forwards: 40, sync, sizes: {}, device })
      let last: unknown
      worker.on('message', message => {
        last = message
      })
      const [status] = await once(worker, 'exit')
      return { status, last }
    })
    for (let i = 0; i < 40; i++) {
      const request = await forward(layer, makeRequest(config, 40))
      expect(request.output).toEqual(expected.output)
    }
    for (const { status, last } of await Promise.all(results)) {
      expect(status).toBe(0)
      expect(last).toEqual(expected.output)
    }
    layer.dispose()
  })

  it('may end at any moment: nothing of theirs stays, and the card goes on', async () => {
    const { layer, config } = makeLayer(loadNative(), undefined, { device })
    const expected = makeRequest(config, 5)
    await forward(layer, expected)
    const before = await settledDeviceBytes(device)
    for (let round = 0; round < 4; round++) {
      const worker = startWorker({ tokens: 300, forwards: 60, sync: round % 2 === 0, sizes: {}, device })
      await once(worker, 'message')
      await sleep(5 * round)
      await worker.terminate()
      const request = makeRequest(config, 5)
      await forward(layer, request)
      expect(request.output).toEqual(expected.output)
    }
    // The largest workspace so far stays with the device.
    const { workspaceBytes } = layer.memory()
    expect(counters(device).deviceBytes - before).toBeLessThanOrEqual(workspaceBytes)
    layer.dispose()
  })
})
