/**
 * The header of a GGUF file, checked more strictly than ggml does: everything that a size or a position is computed from is looked at in 64
 * bits before it is used, and tensors lie one behind the other within the file.
 */

import { allocate } from '../../block/allocate.js'
import { MoeError } from '../../block/errors.js'
import { GGUF_TYPES } from '../../spec/formats.js'
import { otherThan, PROBE_BYTES } from '../diagnosis.js'
import { AGAIN, DAMAGED, invalidCheckpoint } from '../invalid.js'
import { Pacer } from '../pacer.js'
import { type ReadableFile, readFully } from '../regular-file.js'
import { MAX_TENSORS, type TensorEntry } from '../safetensors.js'
import { ByteCursor } from './byte-cursor.js'
import { type Metadata, readMetadata, readString } from './metadata.js'
import { refusedType } from './types.js'

/** The first four bytes of every file. */
const GGUF_MAGIC = 'GGUF'

const PREAMBLE_BYTES = 24
const DEFAULT_ALIGNMENT = 32
const MAX_ALIGNMENT = 65_536
/** ggml's names have 64 bytes with the zero behind them. */
const MAX_NAME_BYTES = 63
const MAX_DIMENSIONS = 4
/** A name of one letter and one dimension. */
const LEAST_TENSOR_BYTES = 8 + 1 + 4 + 8 + 4 + 8

/** What a file holds. */
export interface GgufHeader {
  readonly metadata: Metadata
  /** Shapes with the contiguous dimension last, as safetensors has them: ggml states it first. */
  readonly tensors: ReadonlyMap<string, TensorEntry>
}

/**
 * Reads and checks the header of a file of `size` bytes; no byte of a tensor is read.
 * @throws {@link MoeError} ERR_MOE_INVALID_CHECKPOINT, ERR_MOE_UNSUPPORTED_FORMAT, with `details` {file, tensor?, offset?}
 */
export async function readGgufHeader(
  file: ReadableFile,
  size: number,
  name: string,
  pacer = new Pacer(),
): Promise<GgufHeader> {
  await checkBeginning(file, size, name, pacer)
  const cursor = new ByteCursor(file, size, name, pacer)
  await cursor.ensure(PREAMBLE_BYTES)
  cursor.skip(GGUF_MAGIC.length)
  checkVersion(cursor.u32(), name)
  const numTensors = cursor.count('a number of tensors')
  const numKeys = cursor.count('a number of keys')
  const metadata = await readMetadata(cursor, numKeys)
  const alignment = alignmentOf(metadata, cursor)
  if (numTensors > MAX_TENSORS)
    cursor.fail(`${numTensors} tensors are above the cap of ${MAX_TENSORS}`, undefined, 8)
  if (numTensors * LEAST_TENSOR_BYTES > cursor.left)
    cursor.fail(`${numTensors} tensors do not fit a file of ${size} bytes; ${AGAIN}`, undefined, 8)
  const described: Described[] = []
  const names = new Set<string>()
  for (let index = 0; index < numTensors; index++) {
    described.push(await readTensor(cursor, names))
    if (pacer.due) await pacer.turn()
  }
  return { metadata, tensors: place(described, padded(cursor.position, alignment), alignment, cursor) }
}

/** Whether a file with this beginning is one in GGUF. */
export const isGguf = (beginning: Uint8Array) =>
  Buffer.from(beginning.subarray(0, GGUF_MAGIC.length)).toString('latin1') === GGUF_MAGIC

async function checkBeginning(file: ReadableFile, size: number, name: string, pacer: Pacer): Promise<void> {
  const probe = allocate(Uint8Array, Math.min(size, PROBE_BYTES))
  await readFully(file, probe, 0, name, pacer.signal)
  const isLong = size >= PREAMBLE_BYTES
  if (isGguf(probe) && isLong) return
  const problem = isLong
    ? `does not begin with ${GGUF_MAGIC}; ${DAMAGED}`
    : `${size} bytes are too few for a GGUF file; ${AGAIN}`
  throw invalidCheckpoint(name, (isGguf(probe) ? undefined : otherThan(probe)) ?? problem, { offset: 0 })
}

function checkVersion(version: number, name: string): void {
  if (version === 2 || version === 3) return
  const why =
    version === 1
      ? 'version 1, which counts in 32 bits: convert the model again'
      : version !== 0 && version % 65_536 === 0
        ? 'a file for big-endian machines: use one for little-endian machines'
        : `version ${version}; versions 2 and 3 are read`
  throw new MoeError('ERR_MOE_UNSUPPORTED_FORMAT', `${name}: GGUF of ${why}`, {
    details: { file: name, offset: GGUF_MAGIC.length },
  })
}

function alignmentOf(metadata: Metadata, cursor: ByteCursor): number {
  const stated = metadata.get('general.alignment')
  if (!stated) return DEFAULT_ALIGNMENT
  const { type, value } = stated
  if (type !== 'u32' || typeof value !== 'number')
    return cursor.fail(`general.alignment is of type ${type}, not u32`)
  if (value < 1 || value > MAX_ALIGNMENT || (value & (value - 1)) !== 0)
    cursor.fail(`general.alignment is ${value}, no power of two from 1 to ${MAX_ALIGNMENT}`)
  return value
}

const padded = (length: number, alignment: number) => Math.ceil(length / alignment) * alignment

/** A tensor as the header states it. */
interface Described {
  name: string
  dtype: string
  shape: number[]
  bytes: number
  /** From the beginning of the data. */
  offset: number
  /** Of its description, for messages. */
  at: number
}

async function readTensor(cursor: ByteCursor, names: Set<string>): Promise<Described> {
  const at = cursor.position
  const name = await readString(cursor, MAX_NAME_BYTES, 'the name of a tensor')
  if (name === '') cursor.fail('the name of a tensor is empty', undefined, at)
  if (names.has(name)) cursor.fail(`tensor '${name}' is there twice`, name, at)
  names.add(name)
  const fail = (problem: string) => cursor.fail(`tensor '${name}' ${problem}`, name, at)
  await cursor.ensure(4)
  const rank = cursor.u32()
  if (rank < 1 || rank > MAX_DIMENSIONS) fail(`has ${rank} dimensions, not 1 to ${MAX_DIMENSIONS}`)
  await cursor.ensure(8 * rank + 12)
  const lengths = Array.from({ length: rank }, () => cursor.count(`a length of tensor '${name}'`))
  if (lengths.includes(0)) fail(`has no elements: its lengths are ${lengths.join(', ')}`)
  const number = cursor.i32()
  const offset = cursor.count(`a position of tensor '${name}'`)
  const type = GGUF_TYPES.get(number)
  if (!type) {
    throw new MoeError(
      'ERR_MOE_UNSUPPORTED_FORMAT',
      `${cursor.name}: tensor '${name}' ${refusedType(number)}`,
      { details: { file: cursor.name, tensor: name, type: number } },
    )
  }
  if (lengths[0]! % type.perBlock !== 0)
    fail(`has rows of ${lengths[0]} elements, which are no whole blocks of ${type.name} (${type.perBlock})`)
  let bytes = (lengths[0]! / type.perBlock) * type.blockBytes
  for (const length of lengths.slice(1)) {
    bytes *= length
    if (!Number.isSafeInteger(bytes)) fail('has too many elements')
  }
  return { name, dtype: type.name, shape: lengths.reverse(), bytes, offset, at }
}

/** Positions in the file: the tensors lie in the order of their descriptions, each padded to the alignment. */
function place(
  described: readonly Described[],
  dataStart: number,
  alignment: number,
  cursor: ByteCursor,
): Map<string, TensorEntry> {
  const tensors = new Map<string, TensorEntry>()
  let position = dataStart
  for (const { name, dtype, shape, bytes, offset, at } of described) {
    if (dataStart + offset !== position) {
      cursor.fail(
        `tensor '${name}' lies at byte ${offset} of the data, where the tensors before it end at ${position - dataStart}: ` +
          'a hole or an overlap, or a fork has other sizes for its types',
        name,
        at,
      )
    }
    if (position + bytes > cursor.size) {
      const missing = position + bytes - cursor.size
      cursor.fail(
        `tensor '${name}' lies outside of the file, which is ${missing} or more bytes too short; ${AGAIN}`,
        name,
        at,
      )
    }
    tensors.set(name, { name, dtype, shape, offset: position, bytes })
    position = padded(position + bytes, alignment)
  }
  return tensors
}
