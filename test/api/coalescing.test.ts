/** Calls of one layer that wait run as one, and nobody sees that in what a call gets. */

import { subscribe, unsubscribe } from 'node:diagnostics_channel'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { type ForwardEvent, type ForwardOptions, type ForwardResult, MoeLayer } from '../../lib/index.js'
import { FAMILY_CASES } from '../cases/index.js'
import { makeLayerData } from '../cases/layer-data.js'
import { nativeDevices } from '../helpers/devices.js'
import { expectSame } from '../helpers/same.js'
import { slowCase, tinyLayer } from '../helpers/tiny-layer.js'

type Call = [hidden: Float32Array, options?: ForwardOptions]

/** Everything that a call gives but the memory that it lies in. */
function expectSameResult(
  actual: ForwardResult<Float32Array>,
  alone: ForwardResult<Float32Array>,
  label = '',
) {
  expectSame(actual.output, alone.output, `${label} output`)
  expectSame(actual.topkIds, alone.topkIds, `${label} topkIds`)
  expectSame(actual.topkWeights, alone.topkWeights, `${label} topkWeights`)
  expect(actual.nonFiniteRows, label).toEqual(alone.nonFiniteRows)
  expect(actual.work, label).toEqual(alone.work)
  expect(actual.numTokens).toBe(alone.numTokens)
}

describe.each(nativeDevices)('calls that wait on %s', device => {
  const options = { device: device as 'cpu', batchInvariant: true }
  let blocker: ReturnType<typeof tinyLayer>
  beforeAll(() => {
    blocker = tinyLayer(options, slowCase(device))
  })
  afterAll(() => blocker.layer.dispose())

  /**
   * Makes calls while the device is busy with another layer, until they took `batches` forwards. The thread that makes them may lose its
   * processor for longer than the device is busy: then again, with a device that is busy for twice as long.
   */
  async function runBehind<Result>(layer: MoeLayer, batches: number, makeCalls: () => Promise<Result>[]) {
    for (let attempt = 1; ; attempt++) {
      const before = layer.stats()
      const { hiddenSize } = blocker.config
      const most = blocker.hidden.length / hiddenSize
      const rows = Math.max(1, Math.min(most, (most / 16) * 2 ** (attempt - 1)))
      const busy = blocker.layer.forward(blocker.hidden.subarray(0, rows * hiddenSize))
      const settled = await Promise.allSettled(makeCalls())
      await busy
      if (layer.stats().batches - before.batches === batches) return settled
      expect(
        attempt,
        `${layer.stats().batches - before.batches} forwards instead of ${batches}`,
      ).toBeLessThan(50)
    }
  }

  const resultsOf = (settled: PromiseSettledResult<ForwardResult<Float32Array>>[]) =>
    settled.map(outcome => {
      if (outcome.status === 'rejected') throw outcome.reason
      return outcome.value
    })

  it.each(FAMILY_CASES)('$name: the bits, routing and work of each call alone', async layerCase => {
    const { config, weights, hidden, options: given } = makeLayerData(layerCase, 'f32')
    using layer = MoeLayer.create(config, weights, options)
    const { hiddenSize, topK } = config
    const calls: Call[] = []
    const budgets: ForwardOptions[] = [{}, { topK: topK >> 1 }, { topP: 0.6 }, { topK: 0 }, {}, { topP: 0.9 }]
    for (let row = 0, i = 0; i < budgets.length; i++) {
      const rows = [3, 1, 4, 0, 6, 5][i]!
      const [from, to] = [row, row + rows]
      calls.push([
        hidden.subarray(from * hiddenSize, to * hiddenSize),
        {
          ...budgets[i],
          ...(given.tokenIds && { tokenIds: given.tokenIds.subarray(from, to) }),
          ...(given.routerInput && {
            routerInput: given.routerInput.subarray(from * hiddenSize, to * hiddenSize),
          }),
        },
      ])
      row = to
    }
    const alone = calls.map(call => layer.forwardSync(...call))
    // Expert capacity makes a row's experts depend on the rows beside it.
    const batches = config.capacity ? calls.length : 1
    const results = resultsOf(
      await runBehind(layer, batches, () => calls.map(call => layer.forward(...call))),
    )
    for (const [i, result] of results.entries()) expectSameResult(result, alone[i]!, `call ${i}`)
  })

  it('budgets per row, recorded routings, and outputs of the caller', async () => {
    const { layer, hidden, config } = tinyLayer(options)
    using _ = layer
    const row = (t: number, count: number) =>
      hidden.subarray(t * config.hiddenSize, (t + count) * config.hiddenSize)
    const budgets: Call[] = [
      [row(0, 2), { topK: Uint8Array.of(1, 3) }],
      [row(2, 3), { topP: Float32Array.of(1, 0.4, 0.7) }],
      [row(5, 1), { topK: 2, topP: 0.5 }],
      [row(1, 2), { output: new Float32Array(2 * config.hiddenSize) }],
    ]
    const alone = budgets.map(([rows, { output: _output, ...rest } = {}]) => layer.forwardSync(rows, rest))
    const joint = resultsOf(
      await runBehind(layer, 1, () => budgets.map(([rows, options]) => layer.forward(rows, options))),
    )
    for (const [i, result] of joint.entries()) expectSameResult(result, alone[i]!, `call ${i}`)
    expect(joint[3]!.output).toBe(budgets[3]![1]!.output)
    const replays = alone.map(({ topkIds, topkWeights }) => ({ routing: { topkIds, topkWeights } }))
    const replayed = resultsOf(
      await runBehind(layer, 1, () => budgets.map(([rows], i) => layer.forward(rows, replays[i]))),
    )
    for (const [i, result] of replayed.entries()) expectSame(result.output, alone[i]!.output)
  })

  it('settle in the order in which they were made', async () => {
    const { layer, hidden } = tinyLayer({ ...options, maxCoalescedTokens: 16 })
    using _ = layer
    const order: number[] = []
    // A row, six, a row … : turns of 15, 14, 15 … rows.
    await Promise.all(
      Array.from({ length: 40 }, (_, call) =>
        layer.forward(call % 2 ? hidden : hidden.subarray(0, 32)).then(() => order.push(call)),
      ),
    )
    expect(order).toEqual(Array.from({ length: 40 }, (_, call) => call))
  })

  it('settle in that order where they end at once, each in its own way', async () => {
    const layerCase = FAMILY_CASES.find(({ config }) => config.hashRouted)!
    const { config, weights, hidden, options: given } = makeLayerData(layerCase, 'f32')
    using layer = MoeLayer.create(config, weights, options)
    const tokenIds = given.tokenIds!.subarray(0, 2)
    const rows = hidden.subarray(0, 2 * config.hiddenSize)
    const order: string[] = []
    // Every way through the library to a call's end, which is to take them the same number of steps.
    const kinds: (() => ForwardOptions)[] = [
      () => ({ tokenIds, signal: new AbortController().signal }),
      () => ({ tokenIds }),
      () => ({ tokenIds: Int32Array.of(1, 2 ** 30) }),
      () => ({ tokenIds, output: new Float32Array(rows.length) }),
      () => ({ tokenIds: Int32Array.of(1, 2 ** 30), signal: new AbortController().signal }),
    ]
    const number = 12
    await runBehind(layer, 1, () => {
      order.length = 0
      return Array.from({ length: number }, (_, i) => {
        const call = layer.forward(rows, kinds[(i * 2) % kinds.length]!())
        call.then(
          () => order.push(`${i}`),
          () => order.push(`${i}`),
        )
        return call
      })
    })
    expect(order).toEqual(Array.from({ length: number }, (_, i) => `${i}`))
  })

  it('are bounded in rows, and may be told to run alone', async () => {
    const { hidden, layer } = tinyLayer({ ...options, maxCoalescedTokens: 12 })
    using _ = layer
    await runBehind(layer, 3, () => Array.from({ length: 5 }, () => layer.forward(hidden)))
    using apart = tinyLayer({ ...options, coalesce: false }).layer
    const settled = await Promise.all(Array.from({ length: 5 }, () => apart.forward(hidden)))
    expect(settled).toHaveLength(5)
    expect(apart.stats()).toMatchObject({ calls: 5, batches: 5 })
  })

  it('fail one by one', async () => {
    const layerCase = FAMILY_CASES.find(({ config }) => config.hashRouted)!
    const { config, weights, hidden, options: given } = makeLayerData(layerCase, 'f32')
    using layer = MoeLayer.create(config, weights, options)
    const tokenIds = given.tokenIds!.subarray(0, 2)
    const rows = hidden.subarray(0, 2 * config.hiddenSize)
    const alone = layer.forwardSync(rows, { tokenIds })
    const settled = await Promise.allSettled(
      Array.from({ length: 8 }, (_, call) =>
        layer.forward(rows, { tokenIds: call === 5 ? Int32Array.of(1, 2 ** 30) : tokenIds }),
      ),
    )
    for (const [call, outcome] of settled.entries()) {
      if (outcome.status === 'fulfilled') expectSameResult(outcome.value, alone)
      else expect(outcome.reason).toMatchObject({ code: 'ERR_MOE_INVALID_ARG_VALUE' })
      expect(outcome.status).toBe(call === 5 ? 'rejected' : 'fulfilled')
    }
    expect(layer.stats()).toMatchObject({ calls: 8, failedCalls: 1 })
    const failing = async () => await layer.forward(rows, { tokenIds: Int32Array.of(1, 2 ** 30) })
    const error = await failing().catch((reason: Error) => reason)
    expect((error as Error).stack).toMatch(/at (async )?failing .*coalescing\.test\.ts/)
  })

  it('are aborted one by one, in the queue and while they run', async () => {
    const { layer, hidden } = tinyLayer(options)
    using _ = layer
    const alone = layer.forwardSync(hidden)
    const reason = new Error('enough')
    for (const wait of [0, 5]) {
      const busy = blocker.layer.forward(blocker.hidden)
      const controllers = Array.from({ length: 6 }, () => new AbortController())
      const calls = controllers.map(({ signal }) => layer.forward(hidden, { signal }))
      const settled = Promise.allSettled(calls)
      if (wait > 0) await new Promise(resolve => setTimeout(resolve, wait))
      for (const at of [0, 3, 5]) controllers[at]!.abort(reason)
      for (const [at, outcome] of (await settled).entries()) {
        if (outcome.status === 'fulfilled') expectSameResult(outcome.value, alone)
        else expect([0, 3, 5]).toContain(at)
        if (outcome.status === 'rejected') expect(outcome.reason).toBe(reason)
      }
      await busy
    }
    expect(layer.stats()).toMatchObject({ queueDepth: 0, queuedTokens: 0 })
  })

  it('say how long they waited and ran, and with how many rows', async () => {
    const { layer, hidden } = tinyLayer(options)
    using _ = layer
    const events: ForwardEvent[] = []
    const listen = (message: unknown) => {
      if ((message as ForwardEvent).layer === layer) events.push(message as ForwardEvent)
    }
    subscribe('sparse-experts:forward', listen)
    try {
      await runBehind(layer, 1, () => {
        events.length = 0
        return Array.from({ length: 4 }, () => layer.forward(hidden))
      })
    } finally {
      unsubscribe('sparse-experts:forward', listen)
    }
    expect(events).toHaveLength(4)
    for (const { waitingMs, runningMs, durationMs, batchTokens, numTokens } of events) {
      expect(numTokens).toBe(6)
      expect(batchTokens).toBe(24)
      expect(runningMs).toBeGreaterThan(0)
      expect(waitingMs! + runningMs!).toBeLessThanOrEqual(durationMs)
    }
    expect(new Set(events.map(({ runningMs }) => runningMs)).size).toBe(1)
    const { waitingSeconds, runningSeconds } = layer.stats()
    expect(waitingSeconds).toBeGreaterThan(0)
    expect(runningSeconds).toBeGreaterThan(0)
  })
})
