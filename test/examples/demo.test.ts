import { describe, expect, it } from 'vitest'
import { hiddenStatesOf, tokenize } from '../../examples/demo/hidden-states.js'
import { numberToE4m3, quantizeBlocks } from '../../examples/demo/write-checkpoint.js'
import { ERROR_BOUNDS, relativeError } from '../../lib/devices/accuracy.js'
import { devices } from '../../lib/devices/device.js'
import { runProgram } from '../helpers/run-program.js'

const hasCpu = devices().some(device => device.id === 'cpu' && device.available)

/** By the definition of the format: sign, 4 bits of exponent with bias 7, 3 of mantissa, 0x7F a NaN. */
function e4m3ToNumber(byte: number): number {
  const sign = byte & 0x80 ? -1 : 1
  const exponent = (byte >> 3) & 15
  const mantissa = byte & 7
  if (exponent === 15 && mantissa === 7) return Number.NaN
  return sign * (exponent === 0 ? mantissa * 2 ** -9 : (1 + mantissa / 8) * 2 ** (exponent - 7))
}

describe('fp8 of the demo checkpoint', () => {
  const finite = Array.from({ length: 0x7f }, (_, byte) => e4m3ToNumber(byte))

  it('keeps every value of the format', () => {
    for (let byte = 0; byte < 256; byte++) {
      if (byte === 0x80) expect(numberToE4m3(-0) & 0x7f).toBe(0)
      else if ((byte & 0x7f) !== 0x7f) expect(numberToE4m3(e4m3ToNumber(byte))).toBe(byte)
    }
    expect(numberToE4m3(Number.NaN)).toBe(0x7f)
  })

  it('rounds to the nearest, ties to even, and saturates', () => {
    for (let byte = 0; byte < 0x7e; byte++) {
      const [low, high] = [finite[byte]!, finite[byte + 1]!]
      const middle = (low + high) / 2
      expect(numberToE4m3(middle)).toBe(byte % 2 === 0 ? byte : byte + 1)
      expect(numberToE4m3(middle - (high - low) / 64)).toBe(byte)
      expect(numberToE4m3(-(middle + (high - low) / 64))).toBe(0x80 | (byte + 1))
    }
    expect(numberToE4m3(1e9)).toBe(0x7e)
    expect(numberToE4m3(-1e9)).toBe(0xfe)
  })

  it('scales each 128×128 block by its own largest value, ragged ones too', () => {
    const [rows, cols] = [130, 200]
    const values = Float32Array.from(
      { length: rows * cols },
      (_, i) => Math.sin(i) * (i % cols < 128 ? 1 : 1000),
    )
    const { data, scales } = quantizeBlocks(values, rows, cols)
    expect(scales).toHaveLength(4)
    const decoded = Float64Array.from(data, (byte, i) => {
      const block = 2 * Math.floor(i / cols / 128) + Math.floor((i % cols) / 128)
      return e4m3ToNumber(byte) * scales[block]!
    })
    // Half a step of three mantissa bits at most, uniform: 2^-4 / sqrt(3) relative to a binade's foot.
    expect(relativeError(decoded, values)).toBeLessThan(2 ** -4 / Math.sqrt(3))
    expect(relativeError(decoded, values)).toBeGreaterThan(0)
    for (let row = 0; row < rows; row += 129)
      expect(Math.abs(decoded[row * cols]! - values[row * cols]!)).toBeLessThan(0.04)
  })
})

describe('hidden states of a text', () => {
  it('are deterministic, normalised, and like for like words in like company', () => {
    const tokens = tokenize("It was the best of times, it was the worst of times; cock-lane's ghost")
    expect(tokens.slice(-4)).toEqual(['times', ';', "cock-lane's", 'ghost'])
    const states = hiddenStatesOf(tokens, 256)
    expect(hiddenStatesOf(tokens, 256)).toEqual(states)
    const row = (token: number) => states.subarray(token * 256, (token + 1) * 256)
    const cosine = (a: number, b: number) =>
      row(a).reduce((sum, value, i) => sum + value * row(b)[i]!, 0) / 256
    for (let token = 0; token < tokens.length; token++) expect(cosine(token, token)).toBeCloseTo(1, 5)
    const [it1, was1, it2, was2, best] = [0, 1, 7, 8, 3]
    expect(cosine(was1, was2)).toBeGreaterThan(0.9)
    expect(cosine(was1, was2)).toBeGreaterThan(cosine(was1, best) + 0.5)
    expect(cosine(it1, it2)).toBeLessThan(1)
  })
})

describe.each(hasCpu ? ['no addon', 'cpu'] : ['no addon'])('npm run demo -- --random with %s', device => {
  it('shows a relative error within the bound and everything that it promises', async () => {
    const missing = device === 'cpu' ? {} : { SPARSE_EXPERTS_NATIVE_PATH: '/nowhere/sparse_experts.node' }
    const { status, stdout, stderr } = await runProgram(
      'examples/demo/main.ts',
      ['--random', '--quick'],
      missing,
    )
    expect(stderr).not.toMatch(/error|warn/i)
    expect(status).toBe(0)
    const [, error, bound] = /ok {2}relative error (\S+) \(bound (\S+)\), expert ids equal/.exec(stdout) ?? []
    expect(Number(bound)).toBe(ERROR_BOUNDS.bf16)
    expect(Number(error)).toBeLessThanOrEqual(ERROR_BOUNDS.bf16)
    expect(stdout).toContain('best 4 of 8 groups by the sum of their two best, top 6')
    expect(stdout).toMatch(/tokens in .* tokens\/s/)
    expect(stdout).toMatch(/of 64 experts active/)
    expect(stdout).toMatch(/^ {2}the +\d+× {2}#\d+ \d+ %/m)
    expect(stdout).toMatch(/topK 2 +2\.0 /)
    if (device === 'cpu') expect(stdout).toMatch(/with all 64 experts selected/)
    else {
      expect(stdout).toContain('This runs on the reference, which is exact and slow.')
      expect(stdout).toContain(
        'Install CMake and a C++17 compiler, then: npm run build:native && npm run demo',
      )
    }
  })
})
