/** What `forward` promises its callers: results, types, errors, order, queue, abort, buffers. */

import { subscribe, unsubscribe } from 'node:diagnostics_channel'
import { getEventListeners } from 'node:events'
import { describe, expect, it } from 'vitest'
import { devices, type ForwardEvent, MoeLayer, Tensor } from '../../lib/index.js'
import { allDevices, nativeDevices } from '../helpers/devices.js'
import { shareOfLoop } from '../helpers/liveness.js'
import { slowCase, tinyLayer } from '../helpers/tiny-layer.js'

const code = (value: string) => expect.objectContaining({ code: value })

describe.each(allDevices)('forward on %s', device => {
  const options = { device: device as 'cpu' }

  it('gives output, routing, work and no flags', async () => {
    const { layer, config, hidden } = tinyLayer(options)
    using _ = layer
    const result = await layer.forward(hidden)
    expect(layer.device).toBe(device)
    expect(result.numTokens).toBe(6)
    expect(result.output).toBeInstanceOf(Float32Array)
    expect(result.output).toHaveLength(6 * 32)
    expect(result.topkIds).toBeInstanceOf(Int32Array)
    expect(result.topkIds).toHaveLength(18)
    expect(result.topkWeights).toHaveLength(18)
    for (let token = 0; token < 6; token++) {
      const weights = result.topkWeights.subarray(token * 3, token * 3 + 3)
      expect(weights.reduce((sum, weight) => sum + weight, 0)).toBeCloseTo(1, 6)
      expect([...weights]).toEqual([...weights].sort((a, b) => b - a))
    }
    expect(result.nonFiniteRows).toHaveLength(0)
    const { work } = result
    expect(work.expertTokens.reduce((sum, count) => sum + count, 0)).toBe(18)
    const expertFlops = 2 * 3 * 32 * 24
    const always = 6 * (expertFlops + 2 * 32 * 8)
    expect(work.flops).toBe(18 * expertFlops + always)
    expect(work.denseFlops).toBe(6 * 8 * expertFlops + always)
    const distinct = work.expertTokens.filter(count => count > 0).length
    expect(work.weightBytes).toBe((distinct + 1) * 3 * 32 * 24 * 4 + 32 * 8 * 4)
    expect(work.denseWeightBytes).toBe(9 * 3 * 32 * 24 * 4 + 32 * 8 * 4)
    expect(layer.config).toEqual(config)
    expect(Object.isFrozen(layer.config)).toBe(true)
  })

  it('accepts zero tokens', async () => {
    using layer = tinyLayer(options).layer
    const result = await layer.forward(new Float32Array(0))
    expect(result.numTokens).toBe(0)
    expect(result.output).toHaveLength(0)
    expect(result.topkIds).toHaveLength(0)
    expect(result.work.flops).toBe(0)
    expect(layer.forwardSync(new Float32Array(0)).numTokens).toBe(0)
  })

  it.each(['f16', 'bf16'] as const)('takes and gives the bits of %s', async dtype => {
    const { layer, hidden } = tinyLayer({ ...options, dtype })
    using _ = layer
    const bits = new Uint16Array(hidden.length).fill(dtype === 'f16' ? 0x3c00 : 0x3f80)
    const fromBits = await layer.forward(bits)
    const fromFloats = await layer.forward(new Float32Array(hidden.length).fill(1))
    expect(fromBits.output).toBeInstanceOf(Uint16Array)
    expect(fromBits.topkIds).toEqual(fromFloats.topkIds)
    expect(fromBits.output.some(value => value !== 0)).toBe(true)
  })

  it('takes and gives tensors, views at an offset, and shared memory', async () => {
    const { layer, hidden } = tinyLayer(options)
    using _ = layer
    const plain = await layer.forward(hidden)
    const tensor = Tensor.from(hidden, [6, 32], { device })
    const fromTensor = await layer.forward(tensor)
    expect(fromTensor.output).toBeInstanceOf(Tensor)
    expect(fromTensor.output.shape).toEqual([6, 32])
    expect(fromTensor.output.device).toBe(device)
    expect(fromTensor.output.toHost()).toEqual(plain.output)
    const shifted = new Float32Array(hidden.length + 7)
    shifted.set(hidden, 7)
    expect((await layer.forward(shifted.subarray(7))).output).toEqual(plain.output)
    const shared = new Float32Array(new SharedArrayBuffer(hidden.byteLength))
    shared.set(hidden)
    expect((await layer.forward(shared)).output).toEqual(plain.output)
  })

  it('writes into the caller’s output and leaves what lies around it', async () => {
    const { layer, hidden } = tinyLayer(options)
    using _ = layer
    const guarded = new Float32Array(hidden.length + 32).fill(Number.NaN)
    const output = guarded.subarray(16, 16 + hidden.length)
    const result = await layer.forward(hidden, { output })
    expect(result.output).toBe(output)
    expect(output).toEqual((await layer.forward(hidden)).output)
    expect([...guarded.subarray(0, 16), ...guarded.subarray(16 + hidden.length)].every(Number.isNaN)).toBe(
      true,
    )
  })

  it('replays a recorded routing, and refuses a bad one', async () => {
    const { layer, hidden } = tinyLayer(options)
    using _ = layer
    const { output, topkIds, topkWeights } = await layer.forward(hidden)
    const replayed = await layer.forward(hidden, { routing: { topkIds, topkWeights } })
    expect(replayed.output).toEqual(output)
    expect(replayed.topkIds).toEqual(topkIds)
    expect(replayed.topkIds).not.toBe(topkIds)
    for (const bad of [8, -2, 2 ** 30]) {
      const ids = topkIds.slice()
      ids[5] = bad
      await expect(layer.forward(hidden, { routing: { topkIds: ids, topkWeights } })).rejects.toEqual(
        code('ERR_MOE_INVALID_ARG_VALUE'),
      )
    }
    await expect(
      layer.forward(hidden, { routing: { topkIds: topkIds.subarray(1), topkWeights } }),
    ).rejects.toEqual(code('ERR_MOE_INVALID_ARG_SHAPE'))
    await expect(layer.forward(hidden, { routing: { topkIds, topkWeights }, topK: 1 })).rejects.toEqual(
      code('ERR_MOE_INVALID_ARG_VALUE'),
    )
  })

  it('rejects wrong arguments with a code, and throws the same from forwardSync', async () => {
    const { layer, hidden } = tinyLayer(options)
    using _ = layer
    const cases: [unknown, unknown, string, ErrorConstructor][] = [
      [[1, 2], {}, 'ERR_MOE_INVALID_ARG_TYPE', TypeError],
      [new Float64Array(32), {}, 'ERR_MOE_INVALID_ARG_TYPE', TypeError],
      [new Uint16Array(32), {}, 'ERR_MOE_INVALID_ARG_TYPE', TypeError],
      [hidden.subarray(1), {}, 'ERR_MOE_INVALID_ARG_SHAPE', RangeError],
      [hidden, null, 'ERR_MOE_INVALID_ARG_TYPE', TypeError],
      [hidden, { topk: 2 }, 'ERR_MOE_UNKNOWN_OPTION', TypeError],
      [hidden, { topK: 4 }, 'ERR_MOE_INVALID_ARG_VALUE', RangeError],
      [hidden, { topK: 1.5 }, 'ERR_MOE_INVALID_ARG_VALUE', RangeError],
      [hidden, { topK: '2' }, 'ERR_MOE_INVALID_ARG_TYPE', TypeError],
      [hidden, { topK: new Uint8Array(5) }, 'ERR_MOE_INVALID_ARG_SHAPE', RangeError],
      [hidden, { topK: new Uint8Array(6).fill(4) }, 'ERR_MOE_INVALID_ARG_VALUE', RangeError],
      [hidden, { topP: 0 }, 'ERR_MOE_INVALID_ARG_VALUE', RangeError],
      [hidden, { topP: Number.NaN }, 'ERR_MOE_INVALID_ARG_VALUE', RangeError],
      [hidden, { topP: [0.5] }, 'ERR_MOE_INVALID_ARG_TYPE', TypeError],
      [hidden, { topP: new Float32Array(5).fill(1) }, 'ERR_MOE_INVALID_ARG_SHAPE', RangeError],
      [hidden, { topP: new Float32Array(6) }, 'ERR_MOE_INVALID_ARG_VALUE', RangeError],
      [hidden, { output: new Float32Array(3) }, 'ERR_MOE_INVALID_ARG_SHAPE', RangeError],
      [hidden, { output: new Uint16Array(hidden.length) }, 'ERR_MOE_INVALID_ARG_TYPE', TypeError],
      [hidden, { sequenceLengths: Int32Array.of(5) }, 'ERR_MOE_INVALID_ARG_SHAPE', RangeError],
      [hidden, { tokenIds: new Int32Array(5) }, 'ERR_MOE_INVALID_ARG_SHAPE', RangeError],
    ]
    for (const [input, opts, expected, kind] of cases) {
      const rejected = await layer.forward(input as Float32Array, opts as object).then(
        () => null,
        error => error,
      )
      expect(rejected, JSON.stringify(opts)).toBeInstanceOf(kind)
      expect(rejected.code).toBe(expected)
      expect(() => layer.forwardSync(input as Float32Array, opts as object)).toThrow(rejected.message)
    }
    const near = await layer.forward(hidden, { topk: 2 } as object).catch(error => error)
    expect(near.message).toContain("did you mean 'topK'")
    await expect(layer.forward(hidden, { signal: 'x' as never })).rejects.toEqual(
      code('ERR_MOE_INVALID_ARG_TYPE'),
    )
  })

  it('refuses memory that is gone, that may move, or that another call uses', async () => {
    const { layer, hidden } = tinyLayer(options)
    using _ = layer
    const gone = hidden.slice()
    structuredClone(gone.buffer, { transfer: [gone.buffer] })
    await expect(layer.forward(gone)).rejects.toEqual(code('ERR_MOE_BUFFER_DETACHED'))
    const resizable = new (ArrayBuffer as unknown as new (n: number, o: object) => ArrayBuffer)(
      hidden.byteLength,
      {
        maxByteLength: 2 * hidden.byteLength,
      },
    )
    await expect(layer.forward(new Float32Array(resizable))).rejects.toEqual(code('ERR_MOE_INVALID_ARG_TYPE'))
    await expect(layer.forward(hidden, { output: hidden })).rejects.toEqual(code('ERR_MOE_BUFFER_BUSY'))
    const output = new Float32Array(hidden.length)
    const first = layer.forward(hidden, { output })
    await expect(layer.forward(hidden, { output })).rejects.toEqual(code('ERR_MOE_BUFFER_BUSY'))
    await expect(layer.forward(output)).rejects.toEqual(code('ERR_MOE_BUFFER_BUSY'))
    const second = layer.forward(hidden)
    await first
    await second
    await layer.forward(hidden, { output })
  })

  it('settles calls in the order they were made', async () => {
    const { layer, hidden } = tinyLayer(options)
    using _ = layer
    const order: number[] = []
    await Promise.all(
      Array.from({ length: 20 }, (_, call) =>
        layer.forward(call % 2 ? hidden : hidden.subarray(0, 32)).then(() => order.push(call)),
      ),
    )
    expect(order).toEqual(Array.from({ length: 20 }, (_, call) => call))
  })

  it('bounds its queue in rows', async () => {
    const { layer, hidden } = tinyLayer({ ...options, maxQueuedTokens: 12 })
    using _ = layer
    const accepted = [layer.forward(hidden), layer.forward(hidden)]
    const refused = await layer.forward(hidden.subarray(0, 32)).catch(error => error)
    expect(refused.code).toBe('ERR_MOE_QUEUE_FULL')
    expect(refused.details).toEqual({ queuedTokens: 12, maxQueuedTokens: 12 })
    expect(layer.stats()).toMatchObject({ rejectedCalls: 1, failedCalls: 0, queueDepth: 2 })
    await Promise.all(accepted)
    await layer.forward(hidden)
    expect(layer.stats()).toMatchObject({ calls: 3, rejectedCalls: 1, failedCalls: 0, tokens: 18 })
  })

  it('drops a queued call at once when it is aborted, with the reason untouched', async () => {
    const { layer, hidden } = tinyLayer(options)
    using _ = layer
    const reason = new Error('changed my mind')
    await expect(layer.forward(hidden, { signal: AbortSignal.abort(reason) })).rejects.toBe(reason)
    const controller = new AbortController()
    const first = layer.forward(hidden)
    const second = layer.forward(hidden, { signal: controller.signal })
    const third = layer.forward(hidden)
    controller.abort(reason)
    const outcome = await second.then(
      () => 'finished',
      error => error,
    )
    expect([reason, 'finished']).toContain(outcome)
    expect((await first).output).toEqual((await third).output)
  })

  it('counts what it did', async () => {
    const began = performance.now()
    const { layer, hidden } = tinyLayer(options)
    await layer.forward(hidden)
    layer.forwardSync(hidden)
    const pending = layer.forward(hidden)
    expect(layer.stats()).toMatchObject({ calls: 2, tokens: 12, queueDepth: 1, queuedTokens: 6 })
    await pending
    const stats = layer.stats()
    expect(stats).toMatchObject({ calls: 3, failedCalls: 0, tokens: 18, queueDepth: 0, queuedTokens: 0 })
    expect(stats.tokensPerExpert.reduce((sum, count) => sum + count, 0)).toBe(54)
    const [held, none] = device.startsWith('cuda')
      ? [stats.deviceBytes, stats.hostBytes]
      : [stats.hostBytes, stats.deviceBytes]
    expect(held).toBeGreaterThanOrEqual(9 * 3 * 32 * 24 * 4)
    expect(none).toBe(0)
    expect(stats.flops).toBeLessThan(stats.denseFlops)
    if (device === 'cpu') {
      const { routing, dispatch, experts, combine } = stats.phaseSeconds!
      for (const seconds of [routing, dispatch, experts, combine]) expect(seconds).toBeGreaterThan(0)
      expect(routing + dispatch + experts + combine).toBeLessThan((performance.now() - began) / 1000)
    } else {
      expect(stats.phaseSeconds).toBeNull()
    }
    expect(layer.health()).toEqual({ status: 'ready' })
    layer.dispose()
    expect(layer.stats()).toMatchObject({ hostBytes: 0, deviceBytes: 0 })
  })

  it('publishes on sparse-experts:forward', async () => {
    const { layer, hidden } = tinyLayer({ ...options, maxQueuedTokens: 6 })
    using _ = layer
    const events: ForwardEvent[] = []
    const listen = (message: unknown) => events.push(message as ForwardEvent)
    subscribe('sparse-experts:forward', listen)
    try {
      const running = layer.forward(hidden)
      await layer.forward(hidden).catch(() => {})
      await running
      layer.forwardSync(hidden)
    } finally {
      unsubscribe('sparse-experts:forward', listen)
    }
    expect(events).toHaveLength(3)
    const [refused, finished, synchronous] = events
    expect(refused).toMatchObject({ numTokens: 6, error: { code: 'ERR_MOE_QUEUE_FULL' } })
    expect(refused).not.toHaveProperty('work')
    expect(finished).toMatchObject({ device, family: 'tiny', numTokens: 6, batchTokens: 6, nonFiniteRows: 0 })
    expect(finished!.work!.flops).toBeGreaterThan(0)
    expect(finished!.runningMs).toBeGreaterThan(0)
    expect(finished!.waitingMs! + finished!.runningMs!).toBeLessThanOrEqual(finished!.durationMs)
    expect(synchronous!.work).toEqual(finished!.work)
    expect(synchronous).not.toHaveProperty('waitingMs')
  })

  it('says what the rows of each owner took', async () => {
    const { layer, hidden } = tinyLayer(options)
    using _ = layer
    const row = (t: number) => hidden.slice(t * 32, (t + 1) * 32)
    const owners = Int32Array.of(7, -1, 7, 2 ** 31 - 1, -1, 7)
    const { work, workOf } = await layer.forward(hidden, { rows: owners, topP: 0.8 })
    expect([...workOf!.keys()].sort()).toEqual([-1, 2 ** 31 - 1, 7].sort())
    for (const owner of new Set(owners)) {
      const rows = [...owners.keys()].filter(t => owners[t] === owner)
      const own = Float32Array.from(rows.flatMap(t => [...row(t)]))
      expect(workOf!.get(owner)).toEqual(layer.forwardSync(own, { topP: 0.8 }).work)
    }
    const sum = [...workOf!.values()].reduce((flops, of) => flops + of.flops, 0)
    expect(sum).toBe(work.flops)
    expect((await layer.forward(hidden)).workOf).toBeUndefined()
    await expect(layer.forward(hidden, { rows: new Int32Array(5) })).rejects.toEqual(
      code('ERR_MOE_INVALID_ARG_SHAPE'),
    )
    await expect(layer.forward(hidden, { rows: [1] as never })).rejects.toEqual(
      code('ERR_MOE_INVALID_ARG_TYPE'),
    )
  })

  it('shares a signal among many calls without a warning, and aborts all of them', async () => {
    const { layer, hidden } = tinyLayer(options)
    using _ = layer
    const warnings: Error[] = []
    const listen = (warning: Error) => warnings.push(warning)
    process.on('warning', listen)
    const controller = new AbortController()
    const { signal } = controller
    const reason = new Error('enough')
    try {
      await Promise.all(Array.from({ length: 50 }, () => layer.forward(hidden, { signal })))
      expect(getEventListeners(signal, 'abort')).toHaveLength(0)
      const calls = Array.from({ length: 50 }, () => layer.forward(hidden, { signal }))
      expect(getEventListeners(signal, 'abort').length).toBeLessThanOrEqual(1)
      controller.abort(reason)
      for (const outcome of await Promise.allSettled(calls))
        if (outcome.status === 'rejected') expect(outcome.reason).toBe(reason)
      // Warnings are told in a later turn.
      await new Promise(resolve => setImmediate(resolve))
    } finally {
      process.off('warning', listen)
    }
    expect(warnings).toEqual([])
    expect(layer.stats().queueDepth).toBe(0)
  })

  it('explains what a forward takes', () => {
    const { layer } = tinyLayer(options)
    using _ = layer
    const plan = layer.explain(16)
    expect(plan.stages.map(stage => stage.stage)).toEqual([
      'gate',
      'select',
      'dispatch',
      'gateUp',
      'down',
      'combine',
    ])
    for (const stage of plan.stages) expect(stage.kernel).not.toBe('')
    expect(plan.flops).toBeLessThan(plan.denseFlops)
    expect(plan.expectedExperts).toBeGreaterThan(3)
    expect(plan.expectedExperts).toBeLessThanOrEqual(8)
    expect(plan.residentBytes).toBe(9 * 3 * 32 * 24 * 4 + 32 * 8 * 4)
    expect(() => layer.explain(-1)).toThrow(RangeError)
  })

  it('disposes once, finishes what it accepted, and refuses what comes after', async () => {
    const { layer, hidden } = tinyLayer(options)
    const accepted = [layer.forward(hidden), layer.forward(hidden)]
    layer.dispose()
    layer.dispose()
    expect(layer.isDisposed).toBe(true)
    const [a, b] = await Promise.all(accepted)
    expect(a!.output).toEqual(b!.output)
    await expect(layer.forward(hidden)).rejects.toEqual(code('ERR_MOE_DISPOSED'))
    expect(() => layer.forwardSync(hidden)).toThrow(code('ERR_MOE_DISPOSED') as never)
    let pending: Promise<{ output: unknown }> | undefined
    {
      await using scoped = tinyLayer(options).layer
      pending = scoped.forward(hidden)
    }
    expect((await pending!).output).toEqual(a!.output)
  })
})

describe.each(nativeDevices)('a long forward on %s', device => {
  const slowLayer = () => tinyLayer({ device: device as 'cpu' }, slowCase(device))

  it('does not hold the event loop', async () => {
    const { layer, hidden } = slowLayer()
    using _ = layer
    const output = new Float32Array(hidden.length)
    await layer.forward(hidden, { output })
    const share = await shareOfLoop(async () => {
      for (let i = 0; i < 3; i++) await layer.forward(hidden, { output })
    })
    // A few hundredths on an idle machine, and exactly 1 for the call that does hold it.
    expect(share).toBeLessThan(0.5)
    expect(await shareOfLoop(async () => layer.forwardSync(hidden, { output }))).toBeGreaterThan(0.9)
  })

  it('stops when it is aborted, and so does a call behind it', async () => {
    const { layer, hidden } = slowLayer()
    using _ = layer
    const token = hidden.subarray(0, layer.config.hiddenSize)
    const reason = { why: 'enough' }
    const output = new Float32Array(hidden.length)
    // On a busy machine the call may be over before this thread gets to its abort: then again.
    for (let attempt = 1; ; attempt++) {
      output.fill(Number.NaN)
      const controller = new AbortController()
      const { signal } = controller
      const first = layer.forward(token)
      const stopped = layer.forward(hidden, { signal, output }).catch(error => error)
      const queued = layer.forward(hidden, { signal }).catch(error => error)
      await first
      controller.abort(reason)
      expect(await queued).toBe(reason)
      expect(layer.stats().queueDepth).toBeLessThanOrEqual(1)
      if ((await stopped) === reason) break
      expect(attempt).toBeLessThan(20)
    }
    expect(layer.stats().queueDepth).toBe(0)
    await layer.forward(token)
    // Its last rows were never computed. (A GPU runs to its end, and the result is discarded.)
    if (device === 'cpu') expect(output.at(-1)).toBeNaN()
  })
})

describe('devices asked for by name', () => {
  it('cuda answers with a reason and never falls back', () => {
    const unavailable = expect.objectContaining({ code: 'ERR_MOE_DEVICE_UNAVAILABLE' }) as never
    expect(() => tinyLayer({ device: 'cuda:97' })).toThrow(unavailable)
    expect(() => tinyLayer({ device: 'cuda:97' })).toThrow(/cuda/i)
    const served = devices().find(info => info.id.startsWith('cuda') && info.available)
    if (!served) expect(() => tinyLayer({ device: 'cuda' })).toThrow(unavailable)
    else expect(tinyLayer({ device: 'cuda' }).layer.device).toBe(served.id)
    expect(() => tinyLayer({ device: 'gpu' as never })).toThrow(RangeError)
  })

  it('auto takes a native device where one serves', () => {
    using layer = tinyLayer().layer
    expect(layer.device).toBe(devices().find(info => info.available)?.id)
    expect(layer).toBeInstanceOf(MoeLayer)
  })
})
