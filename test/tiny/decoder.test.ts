/** The decoder's cache, batches and compute budget against the plain call, and what it refuses. */

import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { Decoder, type DecoderResult } from '../../examples/tiny-deepseek/decoder/decoder.js'
import { MODEL_DIRECTORY } from '../../examples/tiny-deepseek/files.js'
import type { DeviceOption } from '../../lib/devices/device.js'
import { nativeDevices } from '../helpers/devices.js'
import { expectClose, relativeError } from '../helpers/relative-error.js'
import { type GoldenWindow, goldenWindows } from './golden-logits.js'

describe('the decoder', () => {
  let decoder: Decoder
  let whole: DecoderResult
  let windows: GoldenWindow[]
  beforeAll(async () => {
    windows = await goldenWindows()
    decoder = await Decoder.load(MODEL_DIRECTORY, { device: nativeDevices[0] as DeviceOption })
    const { tokens } = windows[0]!
    whole = await decoder.forward([{ sequence: decoder.newSequence(), tokens }])
  })
  afterAll(() => decoder.dispose())

  const rows = (result: DecoderResult, begin: number, end: number) =>
    result.logits.subarray(begin * decoder.config.vocabSize, end * decoder.config.vocabSize)

  it('gives with the cache, token by token and in pieces, what it gives at once', async () => {
    const { tokens } = windows[0]!
    const sequence = decoder.newSequence()
    let begin = 0
    for (const length of [5, 1, 1, 17, 0, 1]) {
      const part = await decoder.forward([{ sequence, tokens: tokens.subarray(begin, begin + length) }])
      if (length > 0) expectClose(part.logits, rows(whole, begin, begin + length), 1e-5)
      begin += length
      expect(sequence.length).toBe(begin)
    }
  })

  it('keeps sequences of one batch apart', async () => {
    const [a, b] = [windows[0]!.tokens, windows[1]!.tokens]
    const alone = await decoder.forward([{ sequence: decoder.newSequence(), tokens: b.subarray(0, 9) }])
    const parts = [
      { sequence: decoder.newSequence(), tokens: a.subarray(0, 20) },
      { sequence: decoder.newSequence(), tokens: b.subarray(0, 9) },
    ]
    const together = await decoder.forward(parts)
    expectClose(rows(together, 0, 20), rows(whole, 0, 20), 1e-5)
    expectClose(rows(together, 20, 29), alone.logits, 1e-5)
  })

  it('looks at no later token', async () => {
    const { tokens } = windows[0]!
    const other = tokens.slice()
    other[40] = (other[40]! + 1) % 256
    const changed = await decoder.forward([{ sequence: decoder.newSequence(), tokens: other }])
    expect(rows(changed, 0, 40)).toEqual(rows(whole, 0, 40))
    expect(relativeError(rows(changed, 40, 64), rows(whole, 40, 64))).toBeGreaterThan(1e-3)
  })

  it('takes a compute budget per row: full rows are as trained, others spend what they were given', async () => {
    const { tokens } = windows[0]!
    const topK = new Uint8Array(tokens.length).fill(4)
    topK.fill(1, 50)
    const result = await decoder.forward([{ sequence: decoder.newSequence(), tokens }], { topK })
    expectClose(rows(result, 0, 50), rows(whole, 0, 50), 1e-5)
    expect(relativeError(rows(result, 50, 64), rows(whole, 50, 64))).toBeGreaterThan(1e-3)
    for (const { work } of result.routing)
      expect(work.expertTokens.reduce((a, b) => a + b, 0)).toBe(50 * 4 + 14)
  })

  it('refuses tokens that are none, and more than it has positions for', async () => {
    const sequence = decoder.newSequence()
    await expect(decoder.forward([{ sequence, tokens: [256] }])).rejects.toThrow(RangeError)
    await expect(decoder.forward([{ sequence, tokens: [1.5] }])).rejects.toThrow(RangeError)
    const long = new Uint8Array(decoder.config.maxPositions + 1)
    await expect(decoder.forward([{ sequence, tokens: long }])).rejects.toThrow('256 positions')
    expect(sequence.length).toBe(0)
  })
})
