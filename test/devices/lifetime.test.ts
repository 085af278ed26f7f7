/** Memory over many calls, forgotten layers, and environments that come and go. */

import { once } from 'node:events'
import { setTimeout as sleep } from 'node:timers/promises'
import { Worker } from 'node:worker_threads'
import { describe, expect, it } from 'vitest'
import { tryLoadNative } from '../../lib/devices/native/addon.js'
import type { NativeAddon } from '../../lib/devices/native/binding-contract.js'
import {
  forward,
  isCard,
  isEmulated,
  makeConfig,
  makeLayer,
  makeRequest,
  SLOW_SIZES,
  slowTokens,
  testDevice,
  weightBytes,
} from './fixtures/layer.mjs'

const native = tryLoadNative()
if ('error' in native) console.warn(`skipped: ${native.error.message}`)
const isSanitized = Boolean(process.env.SPARSE_EXPERTS_SANITIZED)
/** An emulated card takes milliseconds where others take microseconds. */
const isSlow = !('error' in native) && isEmulated()
const FORWARDS = isSlow ? 500 : 10_000
const WORKER_FORWARDS = isSlow ? 10 : 200

const MiB = 1 << 20
const collect = () => (globalThis as { gc?: () => void }).gc?.()

async function collectUntil(done: () => boolean, tries = 1000): Promise<boolean> {
  for (let i = 0; i < tries; i++) {
    collect()
    await sleep(10)
    if (done()) return true
  }
  return done()
}

function startWorker(workerData: object): Worker {
  return new Worker(new URL('fixtures/worker.mjs', import.meta.url), { workerData })
}

describe.skipIf('error' in native)('lifetime', () => {
  const addon = (native as { addon: NativeAddon }).addon

  it.skipIf(isSanitized)(`holds no memory over ${FORWARDS} forwards`, async () => {
    const { layer, config } = makeLayer(addon)
    const run = async (count: number) => {
      for (let i = 0; i < count; i += 10) {
        await Promise.all(Array.from({ length: 10 }, () => forward(layer, makeRequest(config, 3))))
      }
      collect()
      await sleep(20)
      collect()
      return process.memoryUsage().rss
    }
    const ROUNDS = 6
    let before = await run(FORWARDS / 5)
    const growth: number[] = []
    for (let round = 0; round < ROUNDS; round++) {
      const after = await run(FORWARDS / ROUNDS)
      growth.push(after - before)
      before = after
    }
    // What each forward left behind, be it a KiB, would show in every round; the heap grows in some of them and shrinks in others.
    expect(Math.min(...growth), `${growth}`).toBeLessThan(MiB)
    layer.dispose()
  })

  it.skipIf(isSanitized)('frees layers that were forgotten, also with calls under way', async () => {
    const config = makeConfig({ hiddenSize: 512, intermediateSize: 1024, numExperts: 4 })
    const bytes = weightBytes(makeLayer(addon, config).layer)
    expect(bytes).toBeGreaterThan(24 * MiB)
    await collectUntil(() => false, 10)
    const held = () => (isCard ? addon.counters(testDevice).deviceBytes : process.memoryUsage().rss)
    const before = held()
    const calls: Promise<unknown>[] = []
    for (let i = 0; i < 12; i++) {
      const { layer } = makeLayer(addon, config)
      calls.push(forward(layer, makeRequest(config, 2)))
    }
    await Promise.all(calls)
    calls.length = 0
    // All of them together are 288 MiB.
    expect(await collectUntil(() => held() - before < 3 * bytes)).toBe(true)
  })

  it('serves two workers with a layer each, and the main thread, at once', async () => {
    const { layer, config } = makeLayer(addon)
    const expected = makeRequest(config, 40)
    layer.forwardSync(expected)
    const workers = [false, true].map(sync =>
      startWorker({ tokens: 40, forwards: WORKER_FORWARDS, sync, sizes: {} }),
    )
    const results = workers.map(async worker => {
      let last: unknown
      worker.on('message', message => {
        last = message
      })
      const [status] = await once(worker, 'exit')
      return { status, last }
    })
    for (let i = 0; i < WORKER_FORWARDS; i++) await forward(layer, makeRequest(config, 40))
    for (const { status, last } of await Promise.all(results)) {
      expect(status).toBe(0)
      expect(last).toEqual(expected.output)
    }
    layer.dispose()
  })

  it.each([
    ['asynchronous', false],
    ['synchronous', true],
  ])('terminates a worker in the middle of %s forwards', async (_name, sync) => {
    const { layer, config } = makeLayer(addon)
    const expected = makeRequest(config, 5)
    layer.forwardSync(expected)
    for (let round = 0; round < 4; round++) {
      const worker = startWorker({
        tokens: slowTokens() >> (sync ? 3 : 1),
        forwards: 1000,
        sync,
        sizes: SLOW_SIZES,
      })
      await once(worker, 'message')
      await sleep(20 * round)
      const began = performance.now()
      await worker.terminate()
      // One forward of the worker at most is waited for; all of them would take minutes.
      expect(performance.now() - began).toBeLessThan(30_000)
      const request = makeRequest(config, 5)
      await forward(layer, request)
      expect(request.output).toEqual(expected.output)
    }
    layer.dispose()
  })

  it('survives workers that start and end in a row without any other user of the addon', async () => {
    for (let i = 0; i < 8; i++) {
      const worker = startWorker({ tokens: 3, forwards: 5, sync: i % 2 === 0, sizes: {} })
      const [status] = await once(worker, 'exit')
      expect(status).toBe(0)
    }
  })
})
