/** Sampling, streaming text, and writing on past the last position. */

import fc from 'fast-check'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import {
  Decoder,
  encodeText,
  generate,
  sampleToken,
  softmax,
  TextStream,
} from '../../examples/tiny-deepseek/decoder/index.js'
import { MODEL_DIRECTORY } from '../../examples/tiny-deepseek/files.js'
import type { DeviceOption } from '../../lib/devices/device.js'
import { Random } from '../cases/random.js'
import { nativeDevices } from '../helpers/devices.js'
import { runProgram } from '../helpers/run-program.js'

describe('sampleToken', () => {
  const logits = fc.array(fc.double({ min: -20, max: 20, noNaN: true }), { minLength: 1, maxLength: 40 })
  const unit = fc.double({ min: 0, max: 1, maxExcluded: true, noNaN: true })

  it('takes the likeliest at temperature 0, the lower id of two, and draws nothing', () => {
    const never = () => {
      throw new Error('drew')
    }
    expect(sampleToken([1, 3, 3, 2], { temperature: 0, topP: 1 }, never)).toBe(1)
  })

  it('stays in the nucleus, whatever is drawn', () => {
    fc.assert(
      fc.property(logits, unit, fc.double({ min: 0.01, max: 1, noNaN: true }), (values, draw, topP) => {
        const token = sampleToken(values, { temperature: 1, topP }, () => draw)
        const p = softmax(values)
        // What is strictly likelier does not reach topP on its own.
        const above = p.reduce((sum, other) => (other > p[token]! ? sum + other : sum), 0)
        return above < topP
      }),
    )
  })

  it('draws by probability', () => {
    const random = new Random(3)
    const values = [Math.log(0.5), Math.log(0.3), Math.log(0.2)]
    const counts = [0, 0, 0]
    for (let i = 0; i < 20_000; i++)
      counts[sampleToken(values, { temperature: 1, topP: 1 }, () => random.uniform())]!++
    // Five standard deviations of the first count: 5 · √(20000 · 0.5 · 0.5) = 354.
    for (const [id, share] of [0.5, 0.3, 0.2].entries())
      expect(Math.abs(counts[id]! - 20_000 * share)).toBeLessThan(354)
  })

  it('sharpens below and flattens above temperature 1', () => {
    const values = [2, 1, 0]
    expect(softmax(values, 0.5)[0]!).toBeGreaterThan(softmax(values)[0]!)
    expect(softmax(values, 2)[0]!).toBeLessThan(softmax(values)[0]!)
  })

  it('refuses what is no setting, and logits that are no numbers', () => {
    const draw = () => 0.5
    expect(() => sampleToken([1], { temperature: -1, topP: 1 }, draw)).toThrow(RangeError)
    expect(() => sampleToken([1], { temperature: Number.NaN, topP: 1 }, draw)).toThrow(RangeError)
    expect(() => sampleToken([1], { temperature: 1, topP: 0 }, draw)).toThrow(RangeError)
    expect(() => sampleToken([1, Number.NaN], { temperature: 1, topP: 1 }, draw)).toThrow('token 1')
  })
})

describe('TextStream', () => {
  const streamed = (bytes: Iterable<number>) => {
    const stream = new TextStream()
    const parts = Array.from(bytes, byte => stream.push(byte))
    return { parts, text: parts.join('') + stream.end() }
  }

  it('shows no half character', () => {
    const { parts, text } = streamed(encodeText('aé€😀\uFEFFz'))
    expect(text).toBe('aé€😀\uFEFFz')
    expect(parts).toEqual(['a', '', 'é', '', '', '€', '', '', '', '😀', '', '', '\uFEFF', 'z'])
  })

  it('gives back any text, and for any bytes what decoding them at once gives', () => {
    fc.assert(fc.property(fc.string({ unit: 'grapheme' }), text => streamed(encodeText(text)).text === text))
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 60 }), bytes => {
        const whole = new TextDecoder('utf-8', { ignoreBOM: true }).decode(bytes)
        return streamed(bytes).text === whole
      }),
    )
  })

  it('replaces a character that never ends', () => {
    expect(streamed([0x61, 0xe2, 0x82]).text).toBe('a\uFFFD')
    expect(streamed([0xe2, 0x61]).text).toBe('\uFFFDa')
  })
})

describe('generate', () => {
  let decoder: Decoder
  beforeAll(async () => {
    decoder = await Decoder.load(MODEL_DIRECTORY, { device: nativeDevices[0] as DeviceOption })
  })
  afterAll(() => decoder.dispose())

  async function write(prompt: string, options: Parameters<typeof generate>[2]) {
    const tokens: number[] = []
    for await (const { token } of generate(decoder, encodeText(prompt), options)) tokens.push(token)
    return tokens
  }

  it('writes the same from the same seed, something else from another', async () => {
    const a = await write('And it came to pass ', { maxTokens: 40, seed: 5 })
    expect(await write('And it came to pass ', { maxTokens: 40, seed: 5 })).toEqual(a)
    expect(await write('And it came to pass ', { maxTokens: 40, seed: 6 })).not.toEqual(a)
  })

  it('has learned to spell', async () => {
    const tokens = await write('And it came to pass ', { maxTokens: 120, temperature: 0 })
    const text = new TextDecoder().decode(Uint8Array.from(tokens))
    const known = ['the', 'and', 'of', 'that', 'in', 'unto', 'he', 'to', 'it', 'was', 'all', 'shall', 'they']
    const words = text.toLowerCase().match(/[a-z]+/g) ?? []
    expect(words.filter(word => known.includes(word)).length).toBeGreaterThan(words.length / 5)
  })

  it('goes on past the last position, with the last half of the text', async () => {
    const { maxPositions } = decoder.config
    const prompt = 'a'.repeat(maxPositions - 4)
    expect(await write(prompt, { maxTokens: 12 })).toHaveLength(12)
    // A prompt that is longer than the model has positions loses its beginning.
    expect(await write(`${'b'.repeat(300)}${prompt}`, { maxTokens: 6, seed: 2 })).toHaveLength(6)
  })

  it('refuses an empty prompt, and stops when it is told to', async () => {
    await expect(write('', { maxTokens: 1 })).rejects.toThrow(RangeError)
    await expect(write('a', { maxTokens: 1, signal: AbortSignal.abort() })).rejects.toThrow('aborted')
  })
})

it('npm run tiny:generate streams text and says what it took', async () => {
  const { status, stdout, stderr } = await runProgram('examples/tiny-deepseek/generate.ts', [
    '--prompt',
    'In the beginning ',
    '--max-tokens',
    '20',
    '--experts',
    '2',
  ])
  expect(status).toBe(0)
  expect(stdout).toMatch(/^In the beginning [\s\S]{10,}\n$/)
  expect(stderr).toMatch(/20 bytes in .* on \w+/)
  expect(stderr).toMatch(/of weights read/)
})
