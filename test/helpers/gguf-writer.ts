/** Writes GGUF files for tests, whole ones and ones that break a rule. */

import { GGUF_TYPES } from '../../lib/spec/formats.js'

const TYPES = [
  'u8',
  'i8',
  'u16',
  'i16',
  'u32',
  'i32',
  'f32',
  'bool',
  'string',
  'array',
  'u64',
  'i64',
  'f64',
] as const
export type GgufValueType = Exclude<(typeof TYPES)[number], 'array'>
type Scalar = number | bigint | boolean | string

/** A value of metadata: its type's number and its bytes. */
export interface GgufValue {
  type: number
  bytes: Uint8Array
}

const typeNumber = (type: (typeof TYPES)[number]) => TYPES.indexOf(type)

function scalarBytes(type: GgufValueType, value: Scalar): Uint8Array {
  if (type === 'string') return ggufString(String(value))
  const bytes = new Uint8Array(/8$/.test(type) || type === 'bool' ? 1 : Number(type.slice(1)) / 8)
  const view = new DataView(bytes.buffer)
  const number = Number(value)
  if (type === 'f32') view.setFloat32(0, number, true)
  else if (type === 'f64') view.setFloat64(0, number, true)
  else if (bytes.length === 8) view.setBigInt64(0, BigInt.asIntN(64, BigInt(value)), true)
  else if (bytes.length === 4) view.setInt32(0, number, true)
  else if (bytes.length === 2) view.setInt16(0, number, true)
  else view.setUint8(0, number)
  return bytes
}

/** A length and UTF-8. */
export function ggufString(text: string): Uint8Array {
  const bytes = Buffer.from(text)
  return concat([int(8, bytes.length), bytes])
}

/** One value. */
export function ggufScalar(type: GgufValueType, value: Scalar): GgufValue {
  return { type: typeNumber(type), bytes: scalarBytes(type, value) }
}

/** An array of values of one type. */
export function ggufArray(type: GgufValueType, values: readonly Scalar[]): GgufValue {
  const elements = values.map(value => scalarBytes(type, value))
  return {
    type: typeNumber('array'),
    bytes: concat([int(4, typeNumber(type)), int(8, values.length), ...elements]),
  }
}

/** A value as converters write it: integers as u32, other numbers as f32, lists as arrays of them. */
export function ggufValue(value: Scalar | readonly Scalar[]): GgufValue {
  const typeOf = (item: Scalar | undefined): GgufValueType => {
    if (typeof item === 'string') return 'string'
    if (typeof item === 'boolean') return 'bool'
    return Number.isInteger(item) ? 'u32' : 'f32'
  }
  if (!Array.isArray(value)) return ggufScalar(typeOf(value as Scalar), value as Scalar)
  const list = value as readonly Scalar[]
  return ggufArray(list.some(item => typeOf(item) === 'f32') ? 'f32' : typeOf(list[0]), list)
}

export interface GgufTensor {
  name: string
  /** ggml's name of the type. */
  type: string
  /** As safetensors states it: ggml's order is the other way round. */
  shape: readonly number[]
  data: Uint8Array
  /** What the description says instead of what is so. */
  stated?: {
    lengths?: readonly (number | bigint)[]
    rank?: number
    number?: number
    offset?: number | bigint
  }
}

export interface GgufFile {
  keys?: readonly (readonly [key: string | Uint8Array, value: GgufValue])[]
  tensors?: readonly GgufTensor[]
  alignment?: number
  /** What the beginning says instead of what is so. */
  stated?: { magic?: string; version?: number; numTensors?: number | bigint; numKeys?: number | bigint }
}

const NUMBERS = new Map([...GGUF_TYPES].map(([number, { name }]) => [name, number]))

export function concat(parts: readonly Uint8Array[]): Uint8Array {
  return Uint8Array.from(Buffer.concat(parts))
}

/** A little-endian integer of 4 or 8 bytes. */
export function int(bytes: 4 | 8, value: number | bigint): Uint8Array {
  const out = new Uint8Array(bytes)
  const view = new DataView(out.buffer)
  if (bytes === 4) view.setUint32(0, Number(value), true)
  else view.setBigUint64(0, BigInt.asUintN(64, BigInt(value)), true)
  return out
}

const padding = (length: number, alignment: number) =>
  new Uint8Array((alignment - (length % alignment)) % alignment)

/** The bytes of a file. `general.alignment` is not written: it is one of the keys. */
export function ggufBytes({ keys = [], tensors = [], alignment = 32, stated = {} }: GgufFile): Uint8Array {
  const parts: Uint8Array[] = [
    Buffer.from(stated.magic ?? 'GGUF', 'latin1'),
    int(4, stated.version ?? 3),
    int(8, stated.numTensors ?? tensors.length),
    int(8, stated.numKeys ?? keys.length),
  ]
  for (const [key, value] of keys) {
    const name = typeof key === 'string' ? Buffer.from(key) : key
    parts.push(int(8, name.length), name, int(4, value.type), value.bytes)
  }
  const data: Uint8Array[] = []
  let offset = 0
  for (const tensor of tensors) {
    const { lengths = [...tensor.shape].reverse(), rank, number } = tensor.stated ?? {}
    parts.push(
      ggufString(tensor.name),
      int(4, rank ?? lengths.length),
      ...lengths.map(length => int(8, length)),
    )
    parts.push(int(4, number ?? NUMBERS.get(tensor.type)!), int(8, tensor.stated?.offset ?? offset))
    data.push(tensor.data, padding(tensor.data.length, alignment))
    offset += tensor.data.length + data.at(-1)!.length
  }
  const header = concat(parts)
  return concat([header, padding(header.length, alignment), ...data])
}
