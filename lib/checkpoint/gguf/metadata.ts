/** The keys and values of a GGUF file. What belongs to tokenizers is passed over: no layer needs it, and it is nearly all of a header. */

import { AGAIN } from '../invalid.js'
import type { ByteCursor } from './byte-cursor.js'

/** Longest string that is kept, in bytes. */
const MAX_STRING_BYTES = 1024 * 1024
const MAX_KEY_BYTES = 65_535

/** Most keys of a file; published ones have about fifty. */
const MAX_KEYS = 65_536

/** Longest array that is kept: one with an entry per layer. */
const MAX_KEPT_ELEMENTS = 65_536

/** Most elements of all arrays that are kept. */
const MAX_ALL_ELEMENTS = 1_048_576

/** A key of one letter and a value of one byte. */
const LEAST_KEY_BYTES = 8 + 1 + 4 + 1

type Scalar = number | bigint | boolean | string

/** A value with its type as the file states it. */
export interface MetadataValue {
  /** 'u32', 'f32', 'bool', 'string' …; of an array the type of its elements. */
  readonly type: string
  readonly value: Scalar | readonly Scalar[] | Skipped
}

/** What was passed over: elements of an array, bytes of a string. */
export interface Skipped {
  readonly length: number
}

const isSkipped = (key: string) => key.startsWith('tokenizer.')

export type Metadata = ReadonlyMap<string, MetadataValue>

/** The numbers of 64 bits that JavaScript's numbers hold become such. */
const narrow = (value: bigint): number | bigint =>
  value >= BigInt(Number.MIN_SAFE_INTEGER) && value <= BigInt(Number.MAX_SAFE_INTEGER) ? Number(value) : value

function readBool(cursor: ByteCursor): boolean {
  const byte = cursor.u8()
  if (byte > 1) cursor.fail(`a boolean is ${byte}, not 0 or 1`, undefined, cursor.position - 1)
  return byte === 1
}

interface ScalarType {
  name: string
  bytes: number
  read: (cursor: ByteCursor) => Scalar
}

const STRING = 8
const ARRAY = 9

/** By the number in the file. */
const SCALARS: Readonly<Record<number, ScalarType>> = {
  0: { name: 'u8', bytes: 1, read: cursor => cursor.u8() },
  1: { name: 'i8', bytes: 1, read: cursor => cursor.i8() },
  2: { name: 'u16', bytes: 2, read: cursor => cursor.u16() },
  3: { name: 'i16', bytes: 2, read: cursor => cursor.i16() },
  4: { name: 'u32', bytes: 4, read: cursor => cursor.u32() },
  5: { name: 'i32', bytes: 4, read: cursor => cursor.i32() },
  6: { name: 'f32', bytes: 4, read: cursor => cursor.f32() },
  7: { name: 'bool', bytes: 1, read: readBool },
  10: { name: 'u64', bytes: 8, read: cursor => narrow(cursor.u64()) },
  11: { name: 'i64', bytes: 8, read: cursor => narrow(cursor.i64()) },
  12: { name: 'f64', bytes: 8, read: cursor => cursor.f64() },
}

const DECODER = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true })

/**
 * A string of at most `maxBytes`.
 * @param what it is, for messages
 */
export async function readString(cursor: ByteCursor, maxBytes: number, what: string): Promise<string> {
  await cursor.ensure(8)
  const offset = cursor.position
  const length = cursor.count(`a length of ${what}`)
  if (length > maxBytes)
    cursor.fail(`${what} has ${length} bytes, above the cap of ${maxBytes}`, undefined, offset)
  await cursor.ensure(length)
  try {
    return DECODER.decode(cursor.bytes(length))
  } catch {
    return cursor.fail(`${what} is not UTF-8`, undefined, offset)
  }
}

/** Reads `numKeys` keys with their values. */
export async function readMetadata(cursor: ByteCursor, numKeys: number): Promise<Metadata> {
  if (numKeys > MAX_KEYS) cursor.fail(`${numKeys} keys are above the cap of ${MAX_KEYS}`, undefined, 16)
  if (numKeys * LEAST_KEY_BYTES > cursor.left)
    cursor.fail(`${numKeys} keys do not fit a file of ${cursor.size} bytes; ${AGAIN}`, undefined, 16)
  const metadata = new Map<string, MetadataValue>()
  const kept = { elements: 0 }
  for (let index = 0; index < numKeys; index++) {
    const offset = cursor.position
    const key = await readString(cursor, MAX_KEY_BYTES, 'a key')
    if (key === '') cursor.fail('a key is empty', undefined, offset)
    if (metadata.has(key)) cursor.fail(`key '${key}' is there twice`, undefined, offset)
    await cursor.ensure(4)
    const type = cursor.i32()
    metadata.set(key, await readValue(cursor, key, type, kept))
    if (cursor.pacer.due) await cursor.pacer.turn()
  }
  return metadata
}

async function readValue(
  cursor: ByteCursor,
  key: string,
  type: number,
  kept: { elements: number },
): Promise<MetadataValue> {
  if (type === STRING && isSkipped(key)) {
    await cursor.ensure(8)
    const length = cursor.count(`a length of '${key}'`)
    cursor.skip(length)
    return { type: 'string', value: { length } }
  }
  if (type === STRING)
    return { type: 'string', value: await readString(cursor, MAX_STRING_BYTES, `the value of '${key}'`) }
  if (type === ARRAY) return readArray(cursor, key, kept)
  const scalar = SCALARS[type]
  if (!scalar)
    return cursor.fail(`the value of '${key}' has the unknown type ${type}`, undefined, cursor.position - 4)
  await cursor.ensure(scalar.bytes)
  return { type: scalar.name, value: scalar.read(cursor) }
}

async function readArray(
  cursor: ByteCursor,
  key: string,
  kept: { elements: number },
): Promise<MetadataValue> {
  await cursor.ensure(12)
  const offset = cursor.position
  const type = cursor.i32()
  const length = cursor.count(`an array length in '${key}'`)
  if (type === ARRAY) cursor.fail(`'${key}' is an array of arrays`, undefined, offset)
  if (type === STRING) {
    checkLength(cursor, key, length, 8, offset)
    await skipStrings(cursor, length)
    return { type: 'string', value: { length } }
  }
  const scalar = SCALARS[type]
  if (!scalar) return cursor.fail(`'${key}' is an array of the unknown type ${type}`, undefined, offset)
  checkLength(cursor, key, length, scalar.bytes, offset)
  if (length > MAX_KEPT_ELEMENTS || isSkipped(key)) {
    cursor.skip(length * scalar.bytes)
    return { type: scalar.name, value: { length } }
  }
  kept.elements += length
  if (kept.elements > MAX_ALL_ELEMENTS)
    cursor.fail(`its arrays have more than ${MAX_ALL_ELEMENTS} elements`, undefined, offset)
  const values: Scalar[] = []
  for (let index = 0; index < length; index++) {
    const wait = cursor.ensure(scalar.bytes)
    if (wait) await wait
    values.push(scalar.read(cursor))
  }
  return { type: scalar.name, value: values }
}

function checkLength(
  cursor: ByteCursor,
  key: string,
  length: number,
  leastBytes: number,
  offset: number,
): void {
  if (length * leastBytes > cursor.left)
    cursor.fail(
      `'${key}' has ${length} elements, which do not fit a file of ${cursor.size} bytes; ${AGAIN}`,
      undefined,
      offset,
    )
}

async function skipStrings(cursor: ByteCursor, count: number): Promise<void> {
  for (let index = 0; index < count; index++) {
    const wait = cursor.ensure(8)
    if (wait) await wait
    cursor.skip(cursor.count('a length of a string'))
    if ((index & 4095) === 4095 && cursor.pacer.due) await cursor.pacer.turn()
  }
}
