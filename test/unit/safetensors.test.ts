/** The header parser accepts what the reference implementation accepts, and answers everything else with a typed error. */

import { mkdtempSync, rmSync } from 'node:fs'
import { open } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import path from 'node:path'
import fc from 'fast-check'
import { afterAll, describe, expect, it } from 'vitest'
import { MoeError } from '../../lib/block/errors.js'
import {
  MAX_HEADER_BYTES,
  MAX_TENSORS,
  readSafetensorsHeader,
  type SafetensorsHeader,
} from '../../lib/checkpoint/safetensors.js'
import { writeSafetensors } from '../../lib/checkpoint/writer.js'
import { memoryFile, safetensorsBytes } from '../helpers/checkpoint-memory.js'
import { turnsUntil } from '../helpers/liveness.js'

const directory = mkdtempSync(path.join(tmpdir(), 'sparse-experts-safetensors-'))
afterAll(() => rmSync(directory, { recursive: true, force: true }))

const parse = (bytes: Uint8Array, chunk?: number): Promise<SafetensorsHeader> =>
  readSafetensorsHeader(memoryFile(bytes, chunk), bytes.byteLength, 'x.safetensors')

const entry = (dtype: string, shape: unknown, begin: number, end: number) =>
  JSON.stringify({ dtype, shape, data_offsets: [begin, end] })

async function refusal(bytes: Uint8Array): Promise<MoeError> {
  const error: unknown = await parse(bytes).then(
    () => undefined,
    (reason: unknown) => reason,
  )
  expect(error).toBeInstanceOf(MoeError)
  expect((error as MoeError).code).toBe('ERR_MOE_INVALID_CHECKPOINT')
  expect((error as MoeError).details).toMatchObject({ file: 'x.safetensors' })
  return error as MoeError
}

const VALID = `{"__metadata__":{"format":"pt"},"a":${entry('F32', [2, 3], 0, 24)},"b.\\u00e9":${entry('BF16', [5], 24, 34)},"empty":${entry('F16', [0, 7], 34, 34)},"scalar":${entry('I64', [], 34, 42)}}   `

describe('valid files', () => {
  it('gives every tensor with its place in the file', async () => {
    const bytes = safetensorsBytes(VALID, 42)
    const { tensors, metadata } = await parse(bytes, 7)
    const start = bytes.byteLength - 42
    expect([...tensors.keys()]).toEqual(['a', 'b.é', 'empty', 'scalar'])
    expect(tensors.get('a')).toEqual({ name: 'a', dtype: 'F32', shape: [2, 3], offset: start, bytes: 24 })
    expect(tensors.get('scalar')).toMatchObject({ shape: [], offset: start + 34, bytes: 8 })
    expect(metadata.get('format')).toBe('pt')
  })

  it('accepts an empty file, any order of offsets and names that objects cannot hold', async () => {
    expect((await parse(safetensorsBytes('{}', 0))).tensors.size).toBe(0)
    const header = `{"__proto__":${entry('U8', [1], 3, 4)},"constructor":{"dtype":"U8","shape":[3],"data_offsets":[0,3]}}`
    const { tensors } = await parse(safetensorsBytes(header, 4))
    expect(tensors.get('__proto__')?.bytes).toBe(1)
    expect(tensors.get('constructor')?.bytes).toBe(3)
    expect(tensors.has('toString')).toBe(false)
  })

  it('reads what the writer wrote', async () => {
    const file = path.join(directory, 'written.safetensors')
    const data = Float32Array.of(1, 2, 3, 4)
    await writeSafetensors(
      file,
      [
        { name: '__proto__', dtype: 'F32', shape: [2, 2], data },
        { name: 'codes', dtype: 'F8_E4M3', shape: [3], data: Uint8Array.of(7, 8, 9) },
      ],
      { note: 'é' },
    )
    const handle = await open(file, 'r')
    try {
      const { size } = await handle.stat()
      const { tensors, metadata } = await readSafetensorsHeader(handle, size, file)
      expect(metadata.get('note')).toBe('é')
      const { offset, bytes } = tensors.get('__proto__')!
      expect(offset % 8).toBe(0)
      const read = new Float32Array(4)
      await handle.read(new Uint8Array(read.buffer), 0, bytes, offset)
      expect(read).toEqual(data)
      expect(tensors.get('codes')).toMatchObject({ shape: [3], bytes: 3 })
    } finally {
      await handle.close()
    }
    const wrong = { name: 'x', dtype: 'F32', shape: [3], data }
    await expect(writeSafetensors(file, [wrong])).rejects.toMatchObject({ code: 'ERR_MOE_INVALID_ARG_SHAPE' })
    await expect(writeSafetensors(file, [{ ...wrong, dtype: 'F31' }])).rejects.toBeInstanceOf(RangeError)
  })
})

describe('malformed files', () => {
  const one = (text: string, dataBytes = 4) => safetensorsBytes(text, dataBytes)
  const dims = (shape: string) => `{"a":{"dtype":"U8","shape":${shape},"data_offsets":[0,4]}}`

  it.each<[string, Uint8Array, RegExp]>([
    ['seven bytes', new Uint8Array(7), /too few/],
    ['a header above the cap', safetensorsBytes('{}', 0, BigInt(MAX_HEADER_BYTES) + 1n), /above the cap/],
    ['the largest length', safetensorsBytes('{}', 0, 2n ** 64n - 1n), /above the cap/],
    ['a header longer than the file', safetensorsBytes('{}', 0, 3n), /does not fit/],
    ['no header', safetensorsBytes('', 0), /begin with/],
    ['leading whitespace', one(' {}', 0), /begin with/],
    ['a byte order mark', one('\ufeff{}', 0), /begin with/],
    ['bytes that are not UTF-8', safetensorsBytes(Uint8Array.of(0x7b, 0xff, 0x7d), 0), /not UTF-8/],
    ['an unfinished object', one('{', 0), /expected/],
    ['trailing characters', one('{}x', 0), /trailing/],
    ['a second object', one('{}{}', 0), /trailing/],
    ['a trailing comma', one(`{"a":${entry('U8', [4], 0, 4)},}`), /expected/],
    ['a control character in a name', one(`{"a\n":${entry('U8', [4], 0, 4)}}`), /malformed string/],
    ['a lone surrogate', one(`{"\\ud800":${entry('U8', [4], 0, 4)}}`), /surrogate/],
    [
      'a duplicate name',
      one(`{"a":${entry('U8', [4], 0, 4)},"a":${entry('U8', [4], 0, 4)}}`),
      /duplicate tensor name/,
    ],
    [
      'a duplicate name, spelt otherwise',
      one(`{"a":${entry('U8', [4], 0, 4)},"\\u0061":${entry('U8', [0], 4, 4)}}`),
      /duplicate tensor name/,
    ],
    [
      'a duplicate field',
      one('{"a":{"dtype":"U8","dtype":"U8","shape":[4],"data_offsets":[0,4]}}'),
      /duplicate key/,
    ],
    ['duplicate metadata', one('{"__metadata__":{},"__metadata__":{}}', 0), /duplicate/],
    ['a duplicate metadata key', one('{"__metadata__":{"a":"1","a":"2"}}', 0), /duplicate/],
    ['metadata that is no string', one('{"__metadata__":{"a":1}}', 0), /expected/],
    ['an unknown dtype', one(`{"a":${entry('F31', [4], 0, 4)}}`), /unknown dtype/],
    ['a dtype named like a method', one(`{"a":${entry('toString', [4], 0, 4)}}`), /unknown dtype/],
    ['no dtype', one('{"a":{"shape":[4],"data_offsets":[0,4]}}'), /needs dtype/],
    ['no shape', one('{"a":{"dtype":"U8","data_offsets":[0,4]}}'), /needs dtype/],
    ['no offsets', one('{"a":{"dtype":"U8","shape":[4]}}'), /needs dtype/],
    ['an entry that is no object', one('{"a":[]}'), /expected/],
    ['a negative dimension', one(dims('[-4]')), /non-negative/],
    ['a fraction', one(dims('[4.0]')), /non-negative/],
    ['an exponent', one(dims('[4e0]')), /non-negative/],
    ['a leading zero', one(dims('[04]')), /non-negative/],
    ['a dimension of 2^53', one(dims('[9007199254740992]')), /2\^53/],
    ['a product that overflows', one(dims('[67108864,134217728,2]')), /too many/],
    ['an overflow hidden by a zero', one(dims('[9007199254740991,9007199254740991,0]')), /too many/],
    [
      'bits that overflow',
      one('{"a":{"dtype":"F64","shape":[9007199254740991],"data_offsets":[0,4]}}'),
      /too many/,
    ],
    ['half a byte', one(`{"a":${entry('F4', [3], 0, 1)}}`, 1), /end on a byte/],
    ['three offsets', one('{"a":{"dtype":"U8","shape":[4],"data_offsets":[0,4,4]}}'), /begin, end/],
    ['offsets backwards', one(`{"a":${entry('U8', [4], 4, 0)}}`), /begin, end/],
    ['offsets outside', one(`{"a":${entry('U8', [5], 0, 5)}}`), /outside/],
    ['too few bytes for the shape', one(`{"a":${entry('U8', [4], 0, 3)}}`), /span 3 bytes/],
    ['a hole at the beginning', one(`{"a":${entry('U8', [3], 1, 4)}}`), /hole/],
    ['a hole', one(`{"a":${entry('U8', [1], 0, 1)},"b":${entry('U8', [2], 2, 4)}}`), /hole/],
    ['an overlap', one(`{"a":${entry('U8', [3], 0, 3)},"b":${entry('U8', [2], 2, 4)}}`), /overlap/],
    [
      'two tensors in one place',
      one(`{"a":${entry('U8', [4], 0, 4)},"b":${entry('U8', [4], 0, 4)}}`),
      /overlap/,
    ],
    ['bytes behind the last tensor', one(`{"a":${entry('U8', [3], 0, 3)}}`), /end at byte/],
    ['data without tensors', one('{}'), /end at byte/],
    ['an unknown key', one('{"a":{"dtype":"U8","x":1,"shape":[4],"data_offsets":[0,4]}}'), /unknown key "x"/],
    ['deep nesting', one(`{"a":{"x":${'['.repeat(5000)}`), /unknown key/],
    ['65 dimensions', one(dims(`[4${',1'.repeat(64)}]`)), /more than 64 elements/],
    ['a long list of offsets', one(`{"a":{"data_offsets":[${'0,'.repeat(1e6)}0]}}`), /more than 3 elements/],
    ['a long name', one(`{"a":{"${'x'.repeat(1e6)}":1}}`), /^.{1,200}$/],
    [
      'much metadata',
      one(`{"__metadata__":{${Array.from({ length: 65_537 }, (_, i) => `"${i}":""`)}}}`),
      /more than 65536 keys/,
    ],
  ])('%s', async (_, bytes, message) => {
    expect((await refusal(bytes)).message).toMatch(message)
  })

  it('more tensors than any model has', async () => {
    expect(MAX_TENSORS).toBeGreaterThan(384 * 61 * 9)
    const names = ['a', 'b', 'c'].map(name => `"${name}":${entry('U8', [0], 0, 0)}`)
    const bytes = safetensorsBytes(`{"__metadata__":{},${names}}`, 0)
    const parseAtMost = (count: number) =>
      readSafetensorsHeader(memoryFile(bytes), bytes.byteLength, 'x.safetensors', undefined, count)
    expect((await parseAtMost(3)).tensors.size).toBe(3)
    await expect(parseAtMost(2)).rejects.toMatchObject({
      code: 'ERR_MOE_INVALID_CHECKPOINT',
      message: expect.stringContaining('more than 3 keys'),
    })
  })

  it('names the tensor and the byte', async () => {
    const error = await refusal(one(`{"a":${entry('U8', [1], 0, 1)},"bad":${entry('X', [3], 1, 4)}}`))
    expect(error.details).toMatchObject({ tensor: 'bad' })
    expect(error.details?.offset).toBeGreaterThan(8)
  })

  it('refuses a valid file cut at any byte', async () => {
    const bytes = safetensorsBytes(VALID, 42)
    for (let length = 0; length < bytes.byteLength; length++) await refusal(bytes.slice(0, length))
    await parse(bytes)
  })

  it('refuses a file that ends early although its size said otherwise', async () => {
    const bytes = safetensorsBytes(VALID, 42)
    const read = readSafetensorsHeader(memoryFile(bytes.subarray(0, 20)), bytes.byteLength, 'x.safetensors')
    await expect(read).rejects.toMatchObject({ code: 'ERR_MOE_INVALID_CHECKPOINT' })
  })

  it('answers any mutation with a valid header or a typed error', async () => {
    const original = safetensorsBytes(VALID, 42)
    const mutation = fc.record({
      position: fc.nat(original.byteLength - 1),
      byte: fc.oneof(fc.nat(255), fc.constantFrom(...Buffer.from('{}[]",:0123456789.-eE\\u \n'))),
      kind: fc.constantFrom('set', 'insert', 'delete', 'duplicate'),
    })
    let valid = 0
    await fc.assert(
      fc.asyncProperty(fc.array(mutation, { minLength: 1, maxLength: 4 }), async mutations => {
        let bytes = Array.from(original)
        for (const { position, byte, kind } of mutations) {
          const at = position % bytes.length
          if (kind === 'set') bytes[at] = byte
          else if (kind === 'insert') bytes.splice(at, 0, byte)
          else if (kind === 'delete') bytes.splice(at, 1)
          else bytes = [...bytes.slice(0, at), ...bytes.slice(Math.max(0, at - 9))]
        }
        const file = Uint8Array.from(bytes)
        try {
          const { tensors } = await parse(file)
          valid++
          let total = 0
          for (const tensor of tensors.values()) {
            expect(tensor.offset + tensor.bytes).toBeLessThanOrEqual(file.byteLength)
            total += tensor.bytes
          }
          expect(total).toBeLessThan(file.byteLength)
        } catch (error) {
          expect(error).toBeInstanceOf(MoeError)
          expect((error as MoeError).code).toBe('ERR_MOE_INVALID_CHECKPOINT')
        }
      }),
      { numRuns: 5000, seed: 20 },
    )
    expect(valid).toBeGreaterThan(50)
  })

  it('lets the event loop turn while it parses a hundred thousand tensors', async () => {
    const count = 100_000
    const entries = Array.from(
      { length: count },
      (_, i) => `"t${i}":${entry('U8', [1], count - 1 - i, count - i)}`,
    )
    const bytes = safetensorsBytes(`{${entries.join(',')}}`, count)
    let parsed: Awaited<ReturnType<typeof parse>> | undefined
    const turns = await turnsUntil(
      parse(bytes).then(result => {
        parsed = result
      }),
    )
    expect(parsed!.tensors.size).toBe(count)
    expect(turns).toBeGreaterThanOrEqual(count / 10_000)
  })
})
