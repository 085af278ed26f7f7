/** Forwards of the raw addon: order, cancelling, the memory rules of their arrays, and dispose while they run. */

import { describe, expect, it, vi } from 'vitest'
import { tryLoadNative } from '../../lib/devices/native/addon.js'
import type { NativeAddon, NativeError } from '../../lib/devices/native/binding-contract.js'
import { BOUNDS } from '../cases/index.js'
import { shareOfLoop } from '../helpers/liveness.js'
import { expectSame } from '../helpers/same.js'
import {
  forward,
  isCard,
  makeConfig,
  makeLayer,
  makeRequest,
  noise,
  plainForward,
  relativeError,
  SLOW_SIZES,
  slowTokens,
  testDevice,
  weightBytes,
} from './fixtures/layer.mjs'

const native = tryLoadNative()
if ('error' in native) console.warn(`skipped: ${native.error.message}`)

/** f32 arithmetic against doubles. */
const BOUND = BOUNDS.f32

/** Some tenths of a second per forward of slowTokens(): long enough to act on while it runs. */
const SLOW = makeConfig(SLOW_SIZES)

describe.skipIf('error' in native)('forwards', () => {
  const addon = (native as { addon: NativeAddon }).addon

  it.each([0, 1, 2, 17, 300])(
    'equals a plain loop for %i tokens, asynchronously and synchronously',
    async numTokens => {
      const test = makeLayer(addon)
      const request = makeRequest(test.config, numTokens)
      await forward(test.layer, request)
      const again = makeRequest(test.config, numTokens)
      test.layer.forwardSync(again)
      expectSame(again.output, request.output)
      expectSame(again.topkIds, request.topkIds)
      expectSame(again.topkWeights, request.topkWeights)
      if (numTokens > 0)
        expect(relativeError(request.output, plainForward(test, request.hidden))).toBeLessThan(BOUND)
      test.layer.dispose()
    },
  )

  it('treats a matrix that nobody wrote as zero', async () => {
    const { layer, config, ...rest } = makeLayer(addon)
    const partial = addon.createLayer({
      device: testDevice,
      config,
      dtype: 'f32',
      vectors: { routerWeight: rest.routerWeight },
      gateUpInterleaved: false,
      threads: 0,
      batchInvariant: false,
      maxJointTokens: 256,
      int8Activations: false,
    })
    const matrices = rest.matrices.map((expert, e) => {
      if (e === 1) return { ...expert, up: new Float32Array(8 * 16) }
      partial.setMatrix('expert', e, 'up', expert.up, 'f32', 0, 16, 1)
      return expert
    })
    matrices.forEach((expert, e) => {
      partial.setMatrix('expert', e, 'gate', expert.gate, 'f32', 0, 16, 1)
      partial.setMatrix('expert', e, 'down', expert.down, 'f32', 0, 8, 1)
    })
    const request = makeRequest(config, 20)
    await forward(partial, request)
    expect(
      relativeError(request.output, plainForward({ ...rest, layer, config, matrices }, request.hidden)),
    ).toBeLessThan(BOUND)
    partial.dispose()
    layer.dispose()
  })

  it('reads strided, transposed and interleaved matrices', async () => {
    const test = makeLayer(addon)
    const interleaved = addon.createLayer({
      device: testDevice,
      config: test.config,
      dtype: 'f32',
      vectors: { routerWeight: test.routerWeight },
      gateUpInterleaved: true,
      threads: 1,
      batchInvariant: false,
      maxJointTokens: 256,
      int8Activations: false,
    })
    test.matrices.forEach(({ gate, up, down }, e) => {
      const gateUp = new Float32Array(2 * 8 * 16)
      for (let i = 0; i < 8; i++) {
        gateUp.set(gate.subarray(i * 16, i * 16 + 16), 2 * i * 16)
        gateUp.set(up.subarray(i * 16, i * 16 + 16), (2 * i + 1) * 16)
      }
      interleaved.setMatrix('expert', e, 'gateUp', gateUp, 'f32', 0, 16, 1)
      const transposed = new Float32Array(3 + 16 * 8)
      for (let r = 0; r < 16; r++) for (let c = 0; c < 8; c++) transposed[3 + c * 16 + r] = down[r * 8 + c]!
      interleaved.setMatrix('expert', e, 'down', transposed, 'f32', 3, 1, 16)
    })
    const request = makeRequest(test.config, 9)
    await forward(interleaved, request)
    const expected = makeRequest(test.config, 9)
    await forward(test.layer, expected)
    expectSame(request.output, expected.output)
    interleaved.dispose()
    test.layer.dispose()
  })

  it('finishes the calls of each of two layers in the order in which they were made', async () => {
    const first = makeLayer(addon)
    const second = makeLayer(addon)
    const finished: number[] = []
    const isOfFirst = (i: number) => i % 3 === 0
    const calls = Array.from({ length: 40 }, (_, i) => {
      const { layer, config } = isOfFirst(i) ? first : second
      return forward(layer, makeRequest(config, 1 + ((i * 7) % 50))).then(() => finished.push(i))
    })
    await Promise.all(calls)
    const inOrder = Array.from({ length: 40 }, (_, i) => i)
    expect(finished.filter(isOfFirst)).toEqual(inOrder.filter(isOfFirst))
    expect(finished.filter(i => !isOfFirst(i))).toEqual(inOrder.filter(i => !isOfFirst(i)))
    first.layer.dispose()
    second.layer.dispose()
  })

  it('drops a queued call at once, stops a running one, and says when it is too late', async () => {
    const { layer, config } = makeLayer(addon, SLOW)
    const start = (numTokens = slowTokens()) => {
      const call = {
        id: 0,
        request: makeRequest(config, numTokens),
        settled: new Promise<NativeError | null>(() => {}),
      }
      call.settled = new Promise(resolve => {
        call.id = layer.forward(call.request, resolve)
      })
      return call
    }
    // The call behind one that is over has begun, or is about to; on a busy machine it may be over as well. So until one is met running.
    for (let attempt = 1; ; attempt++) {
      const first = start(1)
      const running = start()
      const queued = start()
      const dropped: (string | undefined)[] = []
      queued.settled.then(error => dropped.push(error?.moeCode))
      await first.settled
      const outcomes = [layer.cancel(queued.id), layer.cancel(running.id)]
      if (String(outcomes) === 'dropped,stopping') {
        expect((await running.settled)?.moeCode).toBe('CANCELLED')
        expect(layer.cancel(running.id)).toBe('done')
        // A GPU runs to its end, and the result is discarded.
        if (!isCard) expect(running.request.output.at(-1)).toBeNaN()
        expect(layer.cancel(queued.id)).toBe('done')
        // The dropped call never touches its arrays, and its `done` never comes.
        expect(await start(1).settled).toBeNull()
        expect(queued.request.output.every(Number.isNaN)).toBe(true)
        expect(dropped).toEqual([])
        break
      }
      expect(await start(1).settled).toBeNull()
      expect(attempt).toBeLessThan(50)
    }
    expect(layer.cancel(12345678)).toBe('done')
    const other = makeLayer(addon)
    const foreign = start()
    expect(other.layer.cancel(foreign.id)).toBe('done')
    expect(await foreign.settled).toBeNull()
    layer.dispose()
    other.layer.dispose()
  })

  // A card keeps rows apart where it is told to, and these layers are not.
  it.skipIf(isCard)('hands over the calls that ran as one before any reaction to them runs', async () => {
    const blocker = makeLayer(addon, SLOW)
    const { layer, config } = makeLayer(addon)
    const calls = Array.from({ length: 5 }, (_, call) => call)
    // The thread that makes the calls may lose its processor for longer than the device is busy.
    for (let attempt = 1; ; attempt++) {
      const busy = forward(blocker.layer, makeRequest(blocker.config, slowTokens()))
      const heard: string[] = []
      const batches = await Promise.all(
        calls.map(
          call =>
            new Promise<number>((resolve, reject) => {
              layer.forward(makeRequest(config, 1), (error, _waitedMs, _ranMs, batchTokens) => {
                heard.push(`end ${call}`)
                queueMicrotask(() => heard.push(`reaction ${call}`))
                if (error) reject(error)
                else resolve(batchTokens)
              })
            }),
        ),
      )
      await busy
      if (batches.every(rows => rows === calls.length)) {
        expect(heard).toEqual([...calls.map(call => `end ${call}`), ...calls.map(call => `reaction ${call}`)])
        break
      }
      expect(attempt).toBeLessThan(50)
    }
    blocker.layer.dispose()
    layer.dispose()
  })

  it('does not hold the event loop', async () => {
    const { layer, config } = makeLayer(addon, SLOW)
    const calls = Array.from({ length: 3 }, () => makeRequest(config, slowTokens()))
    const share = await shareOfLoop(() => Promise.all(calls.map(request => forward(layer, request))))
    expect(share).toBeLessThan(0.5)
    expect(await shareOfLoop(async () => layer.forwardSync(calls[0]!))).toBeGreaterThan(0.9)
    layer.dispose()
  })

  it('survives detached buffers: small ones were copied, and every lost result is an error', async () => {
    const { layer, config } = makeLayer(addon, SLOW)
    const blocker = forward(layer, makeRequest(config, slowTokens()))
    const steal = (array: ArrayBufferView) =>
      structuredClone(array.buffer, { transfer: [array.buffer as ArrayBuffer] })
    const noInput = makeRequest(config, 8)
    const reference = makeRequest(config, 8)
    const settledInput = forward(layer, noInput)
    steal(noInput.hidden)
    const lost = (['output', 'topkIds', 'topkWeights', 'nonFinite'] as const).map(field => {
      const request = makeRequest(config, 8)
      const settled = forward(layer, request).then(
        () => 'fulfilled',
        error => error.moeCode,
      )
      steal(request[field])
      return settled
    })
    // 1 MiB and more is borrowed.
    const large = makeRequest(config, 1100)
    lost.push(
      forward(layer, large).then(
        () => 'fulfilled',
        error => error.moeCode,
      ),
    )
    const kept = [steal(large.hidden), steal(large.output)]
    await blocker
    await settledInput
    await forward(layer, reference)
    expectSame(noInput.output, reference.output)
    expect(await Promise.all(lost)).toEqual(Array(5).fill('DETACHED'))
    expect(kept).toHaveLength(2)
    layer.dispose()
  })

  it('copies small inputs: a caller may overwrite them at once', async () => {
    const { layer, config } = makeLayer(addon)
    const expected = makeRequest(config, 4)
    layer.forwardSync(expected)
    const request = makeRequest(config, 4)
    const settled = forward(layer, request)
    request.hidden.fill(NaN)
    await settled
    expectSame(request.output, expected.output)
    layer.dispose()
  })

  it('copies what is missing in arrays that are used in place, before it returns', async () => {
    const { layer, config } = makeLayer(addon)
    const expected = makeRequest(config, 500)
    layer.forwardSync(expected)
    for (const first of [0, 1, 7999, 8000]) {
      const from = expected.hidden.slice()
      const hidden = new Float32Array(from.length)
      hidden.set(from.subarray(0, first))
      const request = makeRequest(config, 500, { hidden, inPlace: 1, copies: [{ from, to: hidden, first }] })
      const settled = forward(layer, request)
      expectSame(hidden, expected.hidden)
      from.fill(Number.NaN)
      await settled
      expectSame(request.output, expected.output)
    }
    layer.dispose()
  })

  it.each([4, 20_000])(
    'takes views with an offset and views of shared memory, %i tokens',
    async numTokens => {
      const { layer, config } = makeLayer(addon)
      const expected = makeRequest(config, numTokens)
      layer.forwardSync(expected)
      const { hiddenSize: H, topK: K } = config
      for (const Buffer of [ArrayBuffer, SharedArrayBuffer]) {
        const floats = new Float32Array(new Buffer(4 * (2 * numTokens * H + 64))).fill(-7)
        const ids = new Int32Array(new Buffer(4 * (numTokens * K + 2))).fill(-7)
        const request = makeRequest(config, numTokens, {
          hidden: floats.subarray(3, 3 + numTokens * H),
          output: floats.subarray(40 + numTokens * H, 40 + 2 * numTokens * H),
          topkIds: ids.subarray(1, 1 + numTokens * K),
          nonFinite: new Uint8Array(new Buffer(numTokens + 5), 5),
        })
        request.hidden.set(expected.hidden)
        await forward(layer, request)
        expectSame(Float32Array.from(request.output), expected.output)
        expectSame(Int32Array.from(request.topkIds), expected.topkIds)
        // Nothing beside the views was written.
        expect([
          floats[2],
          floats[3 + numTokens * H],
          floats[39 + numTokens * H],
          floats[40 + 2 * numTokens * H],
        ]).toEqual([-7, -7, -7, -7])
        expect([ids[0], ids[1 + numTokens * K]]).toEqual([-7, -7])
      }
      layer.dispose()
    },
  )

  it('replays a routing and flags rows that are not finite', async () => {
    const test = makeLayer(addon)
    const first = makeRequest(test.config, 6)
    await forward(test.layer, first)
    const replay = makeRequest(test.config, 6, {
      replay: true,
      topkIds: first.topkIds,
      topkWeights: first.topkWeights,
    })
    await forward(test.layer, replay)
    expectSame(replay.output, first.output)
    const bad = makeRequest(test.config, 6)
    bad.hidden[2 * 16 + 5] = Number.POSITIVE_INFINITY
    await forward(test.layer, bad)
    expect([...bad.nonFinite]).toEqual([0, 0, 1, 0, 0, 0])
    expect(bad.output.subarray(0, 32)).toEqual(first.output.subarray(0, 32))
    expect(bad.output.subarray(32, 48).every(Number.isNaN)).toBe(true)
    test.layer.dispose()
  })

  it('lets accepted calls finish after dispose, then gives the memory back', async () => {
    const { layer, config } = makeLayer(addon, SLOW)
    const held = weightBytes(layer)
    expect(held).toBeGreaterThan(4 * 3 * 256 * 1024 * 4)
    const requests = [makeRequest(config, slowTokens()), makeRequest(config, 10)]
    const calls = requests.map(request => forward(layer, request))
    layer.dispose()
    layer.dispose()
    expect(() => layer.forward(makeRequest(config, 1), () => {})).toThrow(
      expect.objectContaining({ moeCode: 'DISPOSED' }),
    )
    expect(() => layer.forwardSync(makeRequest(config, 1))).toThrow(
      expect.objectContaining({ moeCode: 'DISPOSED' }),
    )
    expect(() => layer.workspaceBytes(1)).toThrow(expect.objectContaining({ moeCode: 'DISPOSED' }))
    expect(weightBytes(layer)).toBe(held)
    await Promise.all(calls)
    expect(requests[1]!.output.some(Number.isNaN)).toBe(false)
    await vi.waitFor(
      () => expect(layer.memory()).toEqual({ hostBytes: 0, deviceBytes: 0, workspaceBytes: 0 }),
      60_000,
    )
  })

  it('refuses to change weights while a forward is under way', async () => {
    const { layer, config } = makeLayer(addon)
    const set = () => layer.setMatrix('expert', 0, 'up', noise(8 * 16, 5), 'f32', 0, 16, 1)
    const call = forward(layer, makeRequest(config, 5))
    expect(set).toThrow(expect.objectContaining({ moeCode: 'INVALID_ARGUMENT' }))
    await call
    expect(set).not.toThrow()
    layer.dispose()
  })

  it('plans the workspace that it then holds, and never shrinks it while a layer lives', async () => {
    const { layer, config } = makeLayer(addon)
    const planned = layer.workspaceBytes(1000)
    const options = { batchInvariant: false, int8Activations: false }
    expect(addon.workspaceBytes(testDevice, config, 'f32', 1000, options)).toBe(planned)
    await forward(layer, makeRequest(config, 1000))
    expect(layer.memory().workspaceBytes).toBeGreaterThanOrEqual(planned)
    const held = layer.memory().workspaceBytes
    await forward(layer, makeRequest(config, 1))
    expect(layer.memory().workspaceBytes).toBe(held)
    layer.dispose()
  })
})
