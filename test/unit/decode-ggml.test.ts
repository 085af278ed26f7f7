/** Blocks of ggml's types against the values of ggml's own decoders. */

import { describe, expect, it } from 'vitest'
import { decodeMatrix } from '../../lib/checkpoint/load/decode.js'
import { GGUF_TYPES, STORED_BYTES, STORED_ELEMENTS, STORED_FORMATS } from '../../lib/spec/formats.js'
import { ggmlGolden } from '../helpers/ggml-golden.js'

const encoding = { codec: 'ggml' } as const
const GOLDEN = ggmlGolden()

describe('blocks of ggml', () => {
  it('has golden values of every type', () => {
    expect(GOLDEN.map(({ type }) => type).sort()).toEqual([...STORED_FORMATS.ggml.data].sort())
  })

  it.each(GOLDEN)('$type decodes to what ggml decodes it to', golden => {
    const { type, number, elements, bytes, blocks, stored, values } = golden
    expect(GGUF_TYPES.get(number)).toEqual({ name: type, perBlock: elements, blockBytes: bytes })
    expect([STORED_ELEMENTS[type], STORED_BYTES[type]]).toEqual([elements, bytes])
    const decoded = decodeMatrix(encoding, { data: { type, bytes: stored } }, blocks, elements)
    expect(decoded).toHaveLength(values.length)
    const wrong = decoded.findIndex((value, i) => !Object.is(value, values[i]))
    expect(wrong, `block ${Math.floor(wrong / elements)}, element ${wrong % elements}`).toBe(-1)
  })

  it.each(GOLDEN)('$type in rows of several blocks', ({ type, elements, blocks, stored, values }) => {
    const perRow = blocks % 5 === 0 ? 5 : 2
    const rows = Math.floor(blocks / perRow)
    const bytes = stored.subarray(0, rows * perRow * STORED_BYTES[type])
    const decoded = decodeMatrix(encoding, { data: { type, bytes } }, rows, perRow * elements)
    expect(decoded).toEqual(values.subarray(0, decoded.length))
  })

  it('multiplies NVFP4 by the factor of the matrix, scales first', () => {
    const golden = GOLDEN.find(({ type }) => type === 'NVFP4')!
    const factor = Math.fround(1 / 3)
    const globalScale = { type: 'F32', bytes: new Uint8Array(Float32Array.of(factor).buffer) } as const
    const data = { type: 'NVFP4', bytes: golden.stored } as const
    const buffers = { data, globalScale }
    const scaled = { ...encoding, globalScaleOp: 'multiply' } as const
    const decoded = decodeMatrix(scaled, buffers, golden.blocks, 64)
    // The scale of 16 elements is what its largest element, of at most 6, is made from.
    const scales = golden.values.map((value, i) => {
      const byte = golden.stored[Math.floor(i / 64) * 36 + (Math.floor(i / 16) % 4)]! & 127
      const [exponent, mantissa] = [byte >> 3, byte % 8]
      const scale =
        byte === 127 ? 0 : exponent === 0 ? mantissa * 2 ** -9 : (1 + mantissa / 8) * 2 ** (exponent - 7)
      const code = scale === 0 ? value : value / scale
      return code * Math.fround(scale * factor)
    })
    expect(decoded).toEqual(scales)
  })

  it.each([
    [
      'a short row of blocks',
      { type: 'Q4_K', bytes: new Uint8Array(143) },
      256,
      /has 143 bytes, expected 144/,
    ],
    ['half a block', { type: 'Q4_K', bytes: new Uint8Array(72) }, 128, /no whole blocks of Q4_K/],
    ['a type that is none of ggml', { type: 'I8', bytes: new Uint8Array(32) }, 32, /I8 is no type of ggml/],
  ] as const)('refuses %s', (_, data, cols, message) => {
    expect(() => decodeMatrix(encoding, { data }, 1, cols)).toThrow(message)
  })

  it('refuses a factor beside a type that has none', () => {
    const globalScale = { type: 'F32', bytes: new Uint8Array(4) } as const
    const data = { type: 'Q8_0', bytes: new Uint8Array(34) } as const
    expect(() =>
      decodeMatrix({ ...encoding, globalScaleOp: 'multiply' }, { data, globalScale }, 1, 32),
    ).toThrow(/a global scale does not belong to Q8_0/)
  })
})
