/** The reader of GGUF headers takes what converters write, and answers everything else with a typed error. */

import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { MoeError } from '../../lib/block/errors.js'
import { type GgufHeader, readGgufHeader } from '../../lib/checkpoint/gguf/header.js'
import { Pacer } from '../../lib/checkpoint/pacer.js'
import { memoryFile } from '../helpers/checkpoint-memory.js'
import {
  concat,
  type GgufFile,
  type GgufTensor,
  ggufArray,
  ggufBytes,
  ggufScalar,
  ggufValue,
  int,
} from '../helpers/gguf-writer.js'
import { turnsUntil, withClock } from '../helpers/liveness.js'

const parse = (bytes: Uint8Array, chunk?: number): Promise<GgufHeader> =>
  readGgufHeader(memoryFile(bytes, chunk), bytes.byteLength, 'x.gguf')

async function refusal(bytes: Uint8Array): Promise<MoeError> {
  const error: unknown = await parse(bytes).then(
    () => undefined,
    (reason: unknown) => reason,
  )
  expect(error).toBeInstanceOf(MoeError)
  expect((error as MoeError).details).toMatchObject({ file: 'x.gguf' })
  return error as MoeError
}

const tensor = (name: string, more: Partial<GgufTensor> = {}): GgufTensor => ({
  name,
  type: 'F32',
  shape: [2, 3],
  data: new Uint8Array(24),
  ...more,
})

const KEYS: GgufFile['keys'] = [
  ['general.architecture', ggufValue('qwen3moe')],
  ['qwen3moe.expert_count', ggufScalar('u32', 8)],
  ['qwen3moe.block_count', ggufScalar('i32', 3)],
  ['a.u8', ggufScalar('u8', 200)],
  ['a.i8', ggufScalar('i8', -3)],
  ['a.u16', ggufScalar('u16', 65_535)],
  ['a.i16', ggufScalar('i16', -32_768)],
  ['a.u64', ggufScalar('u64', 2n ** 64n - 1n)],
  ['a.i64', ggufScalar('i64', -5n)],
  ['a.f32', ggufScalar('f32', 2.5)],
  ['a.f64', ggufScalar('f64', 0.1)],
  ['a.bool', ggufScalar('bool', true)],
  ['a.layers', ggufArray('i32', [1, -2, 3])],
  ['a.flags', ggufArray('bool', [true, false])],
  ['tokenizer.ggml.tokens', ggufArray('string', ['<s>', '</s>', 'é'])],
  ['tokenizer.ggml.scores', ggufArray('f32', [0, 1, 2])],
  ['__proto__', ggufValue('kept')],
]

const TENSORS: GgufTensor[] = [
  tensor('token_embd.weight', { type: 'Q8_0', shape: [3, 64], data: new Uint8Array(3 * 2 * 34) }),
  tensor('blk.0.ffn_gate_exps.weight', { type: 'Q4_K', shape: [2, 3, 256], data: new Uint8Array(6 * 144) }),
  tensor('blk.0.ffn_gate_tid2eid.weight', { type: 'I32', shape: [5, 2], data: new Uint8Array(40) }),
]

describe('valid files', () => {
  it.each([2, 3])('version %i: every value with its type, every tensor with its place', async version => {
    const bytes = ggufBytes({ keys: KEYS, tensors: TENSORS, stated: { version } })
    const { metadata, tensors } = await parse(bytes, 11)
    const plain = Object.fromEntries([...metadata].map(([key, { type, value }]) => [key, [type, value]]))
    expect(plain).toMatchObject({
      'general.architecture': ['string', 'qwen3moe'],
      'qwen3moe.expert_count': ['u32', 8],
      'qwen3moe.block_count': ['i32', 3],
      'a.u8': ['u8', 200],
      'a.i8': ['i8', -3],
      'a.u16': ['u16', 65_535],
      'a.i16': ['i16', -32_768],
      'a.u64': ['u64', 2n ** 64n - 1n],
      'a.i64': ['i64', -5],
      'a.f32': ['f32', 2.5],
      'a.f64': ['f64', 0.1],
      'a.bool': ['bool', true],
      'a.layers': ['i32', [1, -2, 3]],
      'a.flags': ['bool', [true, false]],
      'tokenizer.ggml.tokens': ['string', { length: 3 }],
      'tokenizer.ggml.scores': ['f32', { length: 3 }],
    })
    expect(metadata.get('__proto__')?.value).toBe('kept')
    const dataBytes = 224 + 864 + 64
    const start = bytes.byteLength - dataBytes
    expect(start % 32).toBe(0)
    expect([...tensors.values()]).toEqual([
      { name: 'token_embd.weight', dtype: 'Q8_0', shape: [3, 64], offset: start, bytes: 204 },
      {
        name: 'blk.0.ffn_gate_exps.weight',
        dtype: 'Q4_K',
        shape: [2, 3, 256],
        offset: start + 224,
        bytes: 864,
      },
      { name: 'blk.0.ffn_gate_tid2eid.weight', dtype: 'I32', shape: [5, 2], offset: start + 1088, bytes: 40 },
    ])
  })

  it.each([1, 8, 64, 4096])('an alignment of %i', async alignment => {
    const keys: GgufFile['keys'] = [['general.alignment', ggufScalar('u32', alignment)]]
    const bytes = ggufBytes({ keys, tensors: [tensor('a'), tensor('b')], alignment })
    const { tensors } = await parse(bytes)
    const [a, b] = [tensors.get('a')!.offset, tensors.get('b')!.offset]
    expect([a % alignment, b - a]).toEqual([0, Math.ceil(24 / alignment) * alignment])
  })

  it('no tensors, no keys, and a last tensor that is not padded', async () => {
    expect((await parse(ggufBytes({}))).tensors.size).toBe(0)
    const bytes = ggufBytes({ tensors: [tensor('a')] })
    expect((await parse(bytes.subarray(0, bytes.length - 8))).tensors.get('a')?.bytes).toBe(24)
  })

  it('strings and arrays that are longer than what is read at a time', async () => {
    const words = Array.from({ length: 40_000 }, (_, i) => `token ${i}`.repeat(1 + (i % 7)))
    const layers = Array.from({ length: 65_536 }, (_, i) => i)
    const keys: GgufFile['keys'] = [
      ['tokenizer.ggml.tokens', ggufArray('string', words)],
      ['tokenizer.huggingface.json', ggufValue('x'.repeat(2_000_000))],
      ['general.description', ggufValue('x'.repeat(600_000))],
      [
        'long.scores',
        ggufArray(
          'f32',
          Array.from({ length: 70_000 }, () => 0.5),
        ),
      ],
      ['layers', ggufArray('u32', layers)],
    ]
    const { metadata, tensors } = await parse(ggufBytes({ keys, tensors: [tensor('a')] }))
    expect(metadata.get('tokenizer.ggml.tokens')?.value).toEqual({ length: 40_000 })
    expect(metadata.get('tokenizer.huggingface.json')?.value).toEqual({ length: 2_000_000 })
    expect(metadata.get('general.description')?.value).toHaveLength(600_000)
    expect(metadata.get('long.scores')?.value).toEqual({ length: 70_000 })
    expect(metadata.get('layers')?.value).toEqual(layers)
    expect(tensors.size).toBe(1)
  })
})

const scalarKey = (bytes: Uint8Array, type: number): GgufFile['keys'] => [['k', { type, bytes }]]
const big = 2n ** 53n
const u64 = (value: number | bigint) => int(8, value)

/** Each breaks one rule. */
const BROKEN: readonly (readonly [string, GgufFile, RegExp, string?])[] = [
  ['another magic', { stated: { magic: 'GGML' } }, /does not begin with GGUF/],
  ['a web page', { stated: { magic: '<!doctype html>' } }, /a web page/],
  [
    'version 1',
    { stated: { version: 1 } },
    /version 1, which counts in 32 bits/,
    'ERR_MOE_UNSUPPORTED_FORMAT',
  ],
  ['version 4', { stated: { version: 4 } }, /version 4; versions 2 and 3/, 'ERR_MOE_UNSUPPORTED_FORMAT'],
  ['big-endian', { stated: { version: 0x03000000 } }, /big-endian/, 'ERR_MOE_UNSUPPORTED_FORMAT'],
  ['more tensors than fit', { stated: { numTensors: 1000 } }, /1000 tensors do not fit/],
  ['2^20 tensors', { stated: { numTensors: 2 ** 20 } }, /above the cap of 262144/],
  ['2^60 tensors', { stated: { numTensors: 2n ** 60n } }, /1152921504606846976 is no size/],
  ['-1 tensors', { stated: { numTensors: -1 } }, /18446744073709551615 is no size/],
  ['more keys than fit', { stated: { numKeys: 1000 } }, /1000 keys do not fit/],
  ['2^20 keys', { stated: { numKeys: 2 ** 20 } }, /above the cap of 65536/],
  ['2^63 keys', { stated: { numKeys: 2n ** 63n } }, /is no size/],
  [
    'the same key twice',
    { keys: [KEYS[0]!, KEYS[1]!, KEYS[0]!] },
    /key 'general.architecture' is there twice/,
  ],
  ['an empty key', { keys: [['', ggufValue(1)]] }, /a key is empty/],
  ['a key that is not UTF-8', { keys: [[Uint8Array.of(0xc3, 0x28), ggufValue(1)]] }, /a key is not UTF-8/],
  ['a key of 64 KiB', { keys: [['k'.repeat(65_536), ggufValue(1)]] }, /a key has 65536 bytes/],
  ['a value of type 13', { keys: scalarKey(new Uint8Array(8), 13) }, /'k' has the unknown type 13/],
  ['a value of type -1', { keys: scalarKey(new Uint8Array(8), -1) }, /'k' has the unknown type -1/],
  ['a boolean of 2', { keys: scalarKey(Uint8Array.of(2), 7) }, /a boolean is 2/],
  [
    'booleans of 3',
    { keys: [['k', { type: 9, bytes: concat([int(4, 7), u64(2), Uint8Array.of(1, 3)]) }]] },
    /a boolean is 3/,
  ],
  [
    'a string that is not UTF-8',
    { keys: scalarKey(concat([u64(1), Uint8Array.of(0xff)]), 8) },
    /the value of 'k' is not UTF-8/,
  ],
  ['a string longer than the file', { keys: scalarKey(u64(1000), 8) }, /ends inside of its header/],
  [
    'a string of 2 MiB',
    { keys: [['k', ggufValue('x'.repeat(2 ** 21))]] },
    /'k' has 2097152 bytes, above the cap/,
  ],
  ['a string of 2^53 bytes', { keys: scalarKey(u64(big), 8) }, /9007199254740992 is no size/],
  [
    'an array of arrays',
    { keys: [['k', { type: 9, bytes: concat([int(4, 9), u64(0)]) }]] },
    /'k' is an array of arrays/,
  ],
  [
    'an array of an unknown type',
    { keys: [['k', { type: 9, bytes: concat([int(4, 77), u64(0)]) }]] },
    /unknown type 77/,
  ],
  [
    'an array longer than the file',
    { keys: [['k', { type: 9, bytes: concat([int(4, 0), u64(10_000)]) }]] },
    /'k' has 10000 elements/,
  ],
  [
    'an array of 2^50 numbers',
    { keys: [['k', { type: 9, bytes: concat([int(4, 10), u64(2n ** 50n)]) }]] },
    /do not fit/,
  ],
  [
    'an array of 2^61 strings',
    { keys: [['k', { type: 9, bytes: concat([int(4, 8), u64(2n ** 61n)]) }]] },
    /is no size/,
  ],
  [
    'a string of an array beyond the end',
    { keys: [['k', { type: 9, bytes: concat([int(4, 8), u64(1), u64(500)]) }]] },
    /ends inside/,
  ],
  [
    'an alignment as i32',
    { keys: [['general.alignment', ggufScalar('i32', 32)]] },
    /alignment is of type i32/,
  ],
  [
    'an alignment of 0',
    { keys: [['general.alignment', ggufScalar('u32', 0)]] },
    /alignment is 0, no power of two/,
  ],
  ['an alignment of 24', { keys: [['general.alignment', ggufScalar('u32', 24)]] }, /alignment is 24/],
  [
    'an alignment of 2^17',
    { keys: [['general.alignment', ggufScalar('u32', 2 ** 17)]] },
    /alignment is 131072/,
  ],
  ['the same tensor twice', { tensors: [tensor('a'), tensor('a')] }, /tensor 'a' is there twice/],
  ['a tensor without a name', { tensors: [tensor('')] }, /name of a tensor is empty/],
  ['a name of 64 bytes', { tensors: [tensor('n'.repeat(64))] }, /name of a tensor has 64 bytes/],
  ['no dimensions', { tensors: [tensor('a', { stated: { rank: 0, lengths: [] } })] }, /has 0 dimensions/],
  ['five dimensions', { tensors: [tensor('a', { shape: [1, 1, 1, 2, 3] })] }, /has 5 dimensions/],
  ['2^32 - 1 dimensions', { tensors: [tensor('a', { stated: { rank: -1 } })] }, /has 4294967295 dimensions/],
  ['a length of 0', { tensors: [tensor('a', { stated: { lengths: [3, 0] } })] }, /has no elements/],
  ['a length of -1', { tensors: [tensor('a', { stated: { lengths: [3, -1n] } })] }, /is no size/],
  [
    'lengths whose product overflows',
    { tensors: [tensor('a', { stated: { lengths: [2 ** 30, 2 ** 30] } })] },
    /too many elements/,
  ],
  [
    'rows that are no whole blocks',
    { tensors: [tensor('a', { type: 'Q4_K', shape: [1, 128], data: new Uint8Array(72) })] },
    /no whole blocks of Q4_K/,
  ],
  [
    'a tensor outside of the file',
    { tensors: [tensor('a', { stated: { lengths: [3, 200] } })] },
    /bytes too short/,
  ],
  [
    'a hole',
    { tensors: [tensor('a'), tensor('b', { stated: { offset: 64 } })] },
    /'b' lies at byte 64 of the data.*end at 32/,
  ],
  ['an overlap', { tensors: [tensor('a'), tensor('b', { stated: { offset: 0 } })] }, /'b' lies at byte 0/],
  [
    'an offset that is not aligned',
    { tensors: [tensor('a'), tensor('b', { stated: { offset: 24 } })] },
    /'b' lies at byte 24/,
  ],
  ['an offset of 2^63', { tensors: [tensor('a', { stated: { offset: 2n ** 63n } })] }, /is no size/],
  ...(
    [
      [4, /Q4_2, which is not read: ggml has removed it/],
      [9, /Q8_1.*activations/],
      [15, /Q8_K.*activations/],
      [31, /Q4_0_4_4.*removed/],
      [34, /TQ1_0.*ternary/],
      [38, /IQ4_NL_8_8.*removed/],
      [41, /Q1_0/],
      [42, /Q2_0.*forks of ggml/],
      [43, /type 43, which is unknown/],
      [139, /ik_llama/],
      [-1, /type -1, which is unknown/],
    ] as const
  ).map(
    ([number, message]) =>
      [
        `type ${number}`,
        { tensors: [tensor('a', { stated: { number } })] },
        message,
        'ERR_MOE_UNSUPPORTED_FORMAT',
      ] as const,
  ),
]

describe('files that break a rule', () => {
  const cases = BROKEN.map(
    ([name, file, message, code = 'ERR_MOE_INVALID_CHECKPOINT']) => [name, file, message, code] as const,
  )
  it.each(cases)('%s', async (_, file, message, code) => {
    const error = await refusal(ggufBytes(file))
    expect(error.message).toMatch(message)
    expect(error.code).toBe(code)
  })

  it('arrays of more than a million elements in all', async () => {
    const array = ggufArray('u8', new Array<number>(65_536).fill(0))
    const keys = Array.from({ length: 17 }, (__, i) => [`a.${i}`, array] as const)
    expect((await refusal(ggufBytes({ keys }))).message).toMatch(/more than 1048576 elements/)
    await parse(ggufBytes({ keys: keys.slice(1) }))
  })

  it('a header of more than 100 MB', async () => {
    const size = 2 ** 40
    const start = ggufBytes({
      keys: [['tokenizer.x', { type: 9, bytes: concat([int(4, 0), u64(100_000_000)]) }]],
      stated: { numKeys: 2 },
    })
    const file = {
      async read(buffer: Uint8Array, offset: number, length: number, position: number) {
        buffer.fill(0, offset, offset + length)
        buffer.set(start.subarray(position, position + length), offset)
        return { bytesRead: length }
      },
    }
    await expect(readGgufHeader(file, size, 'x.gguf')).rejects.toThrow(/header above the cap of 100000000/)
  })

  it('cut at every byte', async () => {
    const bytes = ggufBytes({ keys: KEYS, tensors: [...TENSORS, tensor('blk.0.ffn_gate_inp.weight')] })
    const lastByte = bytes.length - 8
    expect(bytes.length).toBeLessThan(2500)
    for (let length = 0; length < lastByte; length++) {
      const { code } = await refusal(bytes.subarray(0, length))
      expect(code, `${length} bytes`).toBe('ERR_MOE_INVALID_CHECKPOINT')
    }
    await parse(bytes.subarray(0, lastByte))
  })

  it('any bytes: nothing but a MoeError', async () => {
    const valid = ggufBytes({ keys: KEYS, tensors: TENSORS })
    await fc.assert(
      fc.asyncProperty(
        fc.array(fc.tuple(fc.nat(valid.length - 1), fc.nat(255)), { minLength: 1, maxLength: 6 }),
        async changes => {
          const bytes = valid.slice()
          for (const [position, value] of changes) bytes[position] = value
          await parse(bytes).catch((error: unknown) => expect(error).toBeInstanceOf(MoeError))
        },
      ),
      { numRuns: 400 },
    )
  })
})

describe('while a header is read', () => {
  const words = Array.from({ length: 300_000 }, (_, i) => String(i))
  const bytes = ggufBytes({ keys: [['tokenizer.ggml.tokens', ggufArray('string', words)]] })

  it('the event loop has its turns', async () => {
    const read = () => readGgufHeader(memoryFile(bytes), bytes.length, 'x.gguf')
    const turns = await withClock(10, () => turnsUntil(read()))
    expect(turns).toBeGreaterThan(10)
  })

  it('an abort ends it', async () => {
    const controller = new AbortController()
    const reading = readGgufHeader(memoryFile(bytes), bytes.length, 'x.gguf', new Pacer(controller.signal))
    const reason = new Error('enough')
    controller.abort(reason)
    await expect(reading).rejects.toBe(reason)
  })

  it('a file that shrinks is an error', async () => {
    await expect(
      readGgufHeader(memoryFile(bytes.subarray(0, 5000)), bytes.length, 'x.gguf'),
    ).rejects.toMatchObject({
      code: 'ERR_MOE_INVALID_CHECKPOINT',
    })
  })
})
