/** Traces, the ledger of requests, the figures of the compute budget. */

import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import {
  Decoder,
  heldOutLoss,
  RequestLedger,
  WINDOW,
  windowBytes,
} from '../../examples/tiny-deepseek/decoder/index.js'
import { MODEL_DIRECTORY, readHeldOut } from '../../examples/tiny-deepseek/files.js'
import { measureBudgets } from '../../examples/tiny-deepseek/measure-budgets.js'
import { measureSamples } from '../../examples/tiny-deepseek/parallel-samples.js'
import { replaceSection } from '../../examples/tiny-deepseek/readme-section.js'
import { type DeviceOption, MoeLayer } from '../../lib/index.js'
import { readTrace, sliceTrace } from '../cases/trace.js'
import { nativeDevices } from '../helpers/devices.js'

const device = nativeDevices[0] as DeviceOption
let decoder: Decoder
let text: Uint8Array
beforeAll(async () => {
  decoder = await Decoder.load(MODEL_DIRECTORY, { device })
  text = await readHeldOut()
})
afterAll(() => decoder.dispose())

describe('traces', () => {
  it('are of the model that ships: the first window routes as recorded', async () => {
    const traces = await readTrace()
    expect(traces.map(({ layer }) => layer)).toEqual(decoder.sparseLayers)
    const { routing } = await heldOutLoss(decoder, text, 1)
    for (const [index, trace] of traces.entries()) {
      expect(trace.numTokens).toBeGreaterThanOrEqual(2000)
      const { topkIds, topkWeights } = sliceTrace(trace, 0, 256)
      const now = routing[0]![index]!
      // Another instruction set may decide a near tie otherwise.
      const same = topkIds.reduce((count, id, slot) => count + (id === now.topkIds[slot] ? 1 : 0), 0)
      expect(same / topkIds.length).toBeGreaterThan(0.99)
      // Sigmoid weights, normalised and scaled by 1.8, at the precision of f16.
      for (let token = 0; token < 256; token++) {
        const sum = topkWeights.subarray(4 * token, 4 * token + 4).reduce((a, b) => a + b, 0)
        expect(Math.abs(sum - 1.8)).toBeLessThan(4 * 2 ** -11 * 1.8)
      }
    }
  })

  it('are unlike uniform routing: a byte meets the experts that it met the time before', async () => {
    for (const { numTokens, topK, topkIds, numExperts } of await readTrace()) {
      const bytes = windowBytes(text, numTokens / WINDOW)
      const lastOf = new Map<number, Set<number>>()
      let [shared, pairs] = [0, 0]
      for (const [token, byte] of bytes.entries()) {
        const ids = topkIds.subarray(token * topK, (token + 1) * topK)
        const before = lastOf.get(byte)
        if (before) {
          pairs++
          for (const id of ids) if (before.has(id)) shared++
        }
        lastOf.set(byte, new Set(ids))
      }
      // Two independent uniform choices of topK share topK² / numExperts.
      expect(shared / pairs).toBeGreaterThan((2 * topK * topK) / numExperts)
    }
  })

  it('replay in a layer, from any place and round the end', async () => {
    const trace = (await readTrace())[0]!
    const routing = sliceTrace(trace, trace.numTokens - 3, 8)
    expect(routing.topkIds.subarray(12, 16)).toEqual(trace.topkIds.subarray(0, 4))
    using layer = await MoeLayer.load(MODEL_DIRECTORY, { layer: trace.layer, device })
    const result = await layer.forward(new Float32Array(8 * layer.config.hiddenSize).fill(0.1), { routing })
    expect(result.topkIds).toEqual(routing.topkIds)
  })
})

describe('the ledger', () => {
  it('shares out exactly what the layers computed and read', async () => {
    const { config, dtype } = decoder.feedForwards[decoder.sparseLayers[0]!]!
    const ledger = new RequestLedger(config, dtype, 3)
    const requestOfRow = [0, 1, 1, 2, 0, 1]
    const parts = requestOfRow.map((_, row) => ({ sequence: decoder.newSequence(), tokens: [text[row]!] }))
    const { routing } = await decoder.forward(parts, { topK: Uint8Array.of(4, 2, 1, 0, 3, 4) })
    ledger.charge(routing, requestOfRow)
    const sum = (pick: (of: { flops: number; weightBytes: number; tokens: number }) => number) =>
      ledger.accounts.reduce((total, account) => total + pick(account), 0)
    expect(sum(({ tokens }) => tokens)).toBe(6)
    expect(sum(({ flops }) => flops)).toBe(routing.reduce((total, { work }) => total + work.flops, 0))
    expect(sum(({ weightBytes }) => weightBytes)).toBeCloseTo(
      routing.reduce((total, { work }) => total + work.weightBytes, 0),
      3,
    )
    expect(ledger.accounts.map(({ experts }) => experts / 4)).toEqual([7, 7, 0])
  })

  it('keeps every request within its budget, and spends what it can', async () => {
    const figures = await measureBudgets(decoder, text, [1, 0.5])
    for (const { spent, budget } of figures) {
      expect(spent).toBeLessThanOrEqual(budget)
      expect(spent).toBeGreaterThan(0.98 * budget)
    }
    expect(figures[0]!.expertsPerToken).toBe(4)
    expect(figures[1]!.expertsPerToken).toBeLessThan(2)
  })
})

it('N samples meet between topK and all experts, one of them exactly topK', async () => {
  const [one, many] = await measureSamples(decoder, text.subarray(0, 20), [1, 6], 5)
  expect(one!.distinctExperts).toBe(4)
  expect(one!.uniformExperts).toBeCloseTo(4, 10)
  expect(many!.distinctExperts).toBeGreaterThan(4)
  expect(many!.distinctExperts).toBeLessThanOrEqual(24)
  expect(many!.weightBytesPerToken).toBeLessThan(one!.weightBytesPerToken)
})

describe('sections of the README', () => {
  it('are replaced between their marks, and nothing else is', () => {
    const before = 'a\n<!-- x -->\nold\n<!-- /x -->\nb\n<!-- y -->\n<!-- /y -->\n'
    const after = replaceSection(before, 'x', ['1', '2'])
    expect(after).toBe('a\n<!-- x -->\n\n```text\n1\n2\n```\n\n<!-- /x -->\nb\n<!-- y -->\n<!-- /y -->\n')
    expect(replaceSection(after, 'x', ['1', '2'])).toBe(after)
    expect(() => replaceSection(before, 'z', [])).toThrow("section 'z'")
  })
})
