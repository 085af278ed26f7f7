/** Damage to a file, as a list of small steps: fast-check draws it, and takes steps away again where a case fails. */

import fc from 'fast-check'

/** One step. Places are shares of what is there, so that each fits a text of any length. */
export interface Mutation {
  kind: (typeof KINDS)[number]
  /** Where, in [0, 1). */
  at: number
  /** Where a second place is needed, in [0, 1). */
  other: number
  /** Bytes at most. */
  length: number
  /** Which value or bit, as a number. */
  value: number
}

/** What keeps JSON whole, mostly: so that it is read to its end, and reaches what is behind the parser. */
const STRUCTURED = ['value', 'swap values', 'drop key', 'twice', 'number'] as const
const BINARY = ['integer', 'flip', 'delete', 'repeat', 'move', 'truncate'] as const
const KINDS = [...STRUCTURED, ...BINARY, 'insert', 'nest'] as const

/** What is written in the place of a value. */
const VALUES = [
  ...['null', 'true', '{}', '[]', '""', '0', '-1', '1', '2', '3', '127', '256', '4097', '0.5', '-0', '1e308'],
  ...['1e999', '2147483647', '2147483648', '4294967296', '9007199254740991', '9007199254740992', '1e-320'],
  ...['NaN', '-Infinity', '"F32"', '"F4"', '"F8_E4M3"', '"I64"', '"U8"', '"__proto__"', '"../x.safetensors"'],
  ...['"\\u0000"', '"\\ud800"', '[0,0]', '[[],[]]', '[0,18446744073709551616]', '{"a":{"a":{"a":1}}}'],
  ...['"deepseek_v3"', '"mixtral"', '"gpt_oss"', '"qwen3_moe"', '"softmax"', '"sigmoid"', '"gptq"', '"fp8"'],
  ...['"compressed-tensors"', '"a/b.safetensors"', '"model.safetensors"'],
]
/** What is written between two bytes. */
const INSERTED = [...VALUES, '\ufeff', '"\\\\', '\\', '"', '{', '}', ']', ',', ':']

const stepsOf = (kinds: readonly Mutation['kind'][], maxLength: number): fc.Arbitrary<Mutation[]> =>
  fc.array(
    fc.record({
      kind: fc.constantFrom(...kinds),
      at: share(),
      other: share(),
      length: fc.oneof(
        { weight: 8, arbitrary: fc.nat(8) },
        { weight: 2, arbitrary: fc.nat(400) },
        fc.nat(20_000),
      ),
      value: fc.nat(1023),
    }),
    { minLength: 1, maxLength },
  )

export const mutations: fc.Arbitrary<Mutation[]> = fc.oneof(
  { weight: 3, arbitrary: stepsOf(STRUCTURED, 3) },
  stepsOf(KINDS, 6),
)

/** Of a file of binary numbers. */
export const binaryMutations: fc.Arbitrary<Mutation[]> = fc.oneof(
  { weight: 3, arbitrary: stepsOf(['integer'], 3) },
  stepsOf(BINARY, 4),
)

/** What is written in the place of an integer. */
const INTEGERS = [
  ...[0n, 1n, 2n, 3n, 4n, 8n, 9n, 31n, 32n, 33n, 127n, 128n, 255n, 256n, 65_535n, 65_536n, 2n ** 31n - 1n],
  ...[
    2n ** 31n,
    2n ** 32n - 1n,
    2n ** 32n,
    2n ** 53n - 1n,
    2n ** 53n,
    2n ** 63n - 1n,
    2n ** 63n,
    2n ** 64n - 1n,
  ],
]

/** Even over [0, 1): doubles themselves are drawn by their bits, nearly all of them next to 0. */
function share(): fc.Arbitrary<number> {
  return fc.nat(2 ** 30 - 1).map(value => value / 2 ** 30)
}

/** A JSON value as the text has it, roughly: what a mutation takes for one. */
const TOKEN = /"(?:[^"\\]|\\.)*"|-?\d[\d.eE+-]*|true|false|null|\[[^[\]]*\]|\{[^{}]*\}/g

export function mutate(text: Buffer, steps: readonly Mutation[]): Buffer {
  return steps.reduce(step, text)
}

function step(text: Buffer, { kind, at, other, length, value }: Mutation): Buffer {
  const from = Math.floor(at * text.byteLength)
  const to = Math.min(text.byteLength, from + length)
  const replaced = (by: Uint8Array | string, begin = from, end = to) =>
    Buffer.concat([text.subarray(0, begin), Buffer.from(by), text.subarray(end)])
  switch (kind) {
    case 'flip':
      return replaced(
        text.subarray(from, from + 1).map(byte => byte ^ (1 << (value & 7))),
        from,
        from + 1,
      )
    case 'integer': {
      const integer = Buffer.alloc(8)
      integer.writeBigUInt64LE(INTEGERS[value % INTEGERS.length]!)
      const bytes = [1, 2, 4, 8][length & 3]!
      return replaced(integer.subarray(0, bytes), from, Math.min(text.byteLength, from + bytes))
    }
    case 'delete':
      return replaced('')
    case 'repeat':
      return replaced(Buffer.concat(Array.from({ length: 1 + (value & 15) }, () => text.subarray(from, to))))
    case 'move': {
      const place = Math.floor(other * text.byteLength)
      return replaced(text.subarray(from, to), place, place)
    }
    case 'truncate':
      return text.subarray(0, from)
    case 'insert':
      return replaced(INSERTED[value % INSERTED.length]!, from, from)
    case 'nest':
      return replaced(`${'[{"a":'.repeat(length)}0${'}]'.repeat(length)}`, from, from)
    default:
      return structured(text.toString('latin1'), { kind, at, other, length, value })
  }
}

/** Steps that know where values stand. Latin-1 keeps every byte. */
function structured(text: string, { kind, at, other, length, value }: Mutation): Buffer {
  const tokens = [...text.matchAll(TOKEN)]
  const tokenAt = (place: number) => tokens[Math.floor(place * tokens.length)]
  const [first, second] = [tokenAt(at), tokenAt(other)]
  const put = (begin: number, end: number, by: string) =>
    Buffer.from(text.slice(0, begin) + by + text.slice(end), 'latin1')
  if (!first || !second) return Buffer.from(text, 'latin1')
  const [begin, end] = [first.index, first.index + first[0].length]
  switch (kind) {
    case 'value':
      return put(begin, end, VALUES[value % VALUES.length]!)
    case 'swap values':
      return put(begin, end, second[0])
    case 'twice':
      return put(begin, begin, `${first[0]},`)
    case 'drop key': {
      const comma = text.indexOf(',', begin)
      return put(begin, comma < 0 ? end : comma + 1, '')
    }
    default: {
      // A number nearby: off by one, or by a factor.
      const number = tokens.find(({ index, 0: token }) => index >= begin && /^-?\d+$/.test(token))
      if (!number) return Buffer.from(text, 'latin1')
      const old = Number(number[0])
      const changed = [old + 1, old - 1, old * 2, -old, old + 0.5, old * length, old >> 1, 2 ** length][
        value & 7
      ]!
      return put(number.index, number.index + number[0].length, String(changed))
    }
  }
}
