/**
 * The header of a safetensors file, checked as strictly as the reference implementation does: length cap, UTF-8, JSON, no duplicate
 * names, shape times dtype without overflow, data without holes or overlaps that ends exactly where the file ends.
 */

import { setImmediate as nextTurn } from 'node:timers/promises'
import { MoeError } from '../block/errors.js'
import { DTYPE_BITS } from '../spec/formats.js'
import { JsonScanError, JsonScanner } from './json-scanner.js'

/** The cap of the reference implementation. */
export const MAX_HEADER_BYTES = 100_000_000

/** Smallest possible entry of a header is about 50 bytes; the cap keeps hostile headers from filling the heap with objects. */
export const MAX_TENSORS = 1_000_000

/** Entries parsed between two turns of the event loop. */
const ENTRIES_PER_TURN = 2048

const LENGTH_BYTES = 8

/** One tensor of a file. */
export interface TensorEntry {
  readonly name: string
  readonly dtype: string
  readonly shape: readonly number[]
  /** From the beginning of the file. */
  readonly offset: number
  readonly bytes: number
}

/** What a file holds. */
export interface SafetensorsHeader {
  readonly tensors: ReadonlyMap<string, TensorEntry>
  readonly metadata: ReadonlyMap<string, string>
}

/** The part of `fs.promises.FileHandle` that is used. */
export interface ReadableFile {
  read(buffer: Uint8Array, offset: number, length: number, position: number): Promise<{ bytesRead: number }>
}

/** A `MoeError` with ERR_MOE_INVALID_CHECKPOINT that names the file. */
export function invalidCheckpoint(
  file: string,
  message: string,
  details: { tensor?: string; offset?: number } = {},
): MoeError {
  return new MoeError('ERR_MOE_INVALID_CHECKPOINT', `${file}: ${message}`, { details: { file, ...details } })
}

/** Fills `buffer` from `position`; a short read is ERR_MOE_INVALID_CHECKPOINT (the file is shorter than it was). */
export async function readFully(
  file: ReadableFile,
  buffer: Uint8Array,
  position: number,
  name: string,
): Promise<void> {
  let done = 0
  while (done < buffer.byteLength) {
    const { bytesRead } = await file.read(buffer, done, buffer.byteLength - done, position + done)
    if (bytesRead <= 0) throw invalidCheckpoint(name, 'ends early', { offset: position + done })
    done += bytesRead
  }
}

/**
 * Reads and checks the header of a file of `size` bytes; no other byte is read.
 * @throws {@link MoeError} ERR_MOE_INVALID_CHECKPOINT, with `details` {file, tensor?, offset?}
 */
export async function readSafetensorsHeader(
  file: ReadableFile,
  size: number,
  name: string,
): Promise<SafetensorsHeader> {
  if (size < LENGTH_BYTES) throw invalidCheckpoint(name, `${size} bytes are too few for a safetensors file`)
  const prefix = new Uint8Array(LENGTH_BYTES)
  await readFully(file, prefix, 0, name)
  const declared = new DataView(prefix.buffer).getBigUint64(0, true)
  if (declared > BigInt(MAX_HEADER_BYTES)) {
    throw invalidCheckpoint(name, `header of ${declared} bytes is above the cap of ${MAX_HEADER_BYTES}`, {
      offset: 0,
    })
  }
  const headerBytes = Number(declared)
  if (LENGTH_BYTES + headerBytes > size) {
    throw invalidCheckpoint(name, `header of ${headerBytes} bytes does not fit a file of ${size} bytes`, {
      offset: 0,
    })
  }
  const header = new Uint8Array(headerBytes)
  await readFully(file, header, LENGTH_BYTES, name)
  return parseSafetensorsHeader(header, size, name)
}

/** As {@link readSafetensorsHeader}, for header bytes that are in memory; `size` is that of the whole file. */
export async function parseSafetensorsHeader(
  header: Uint8Array,
  size: number,
  name: string,
): Promise<SafetensorsHeader> {
  const dataStart = LENGTH_BYTES + header.byteLength
  let text: string
  try {
    text = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(header)
  } catch (cause) {
    throw new MoeError('ERR_MOE_INVALID_CHECKPOINT', `${name}: the header is not UTF-8`, {
      cause,
      details: { file: name },
    })
  }
  if (text[0] !== '{')
    throw invalidCheckpoint(name, "the header does not begin with '{'", { offset: LENGTH_BYTES })

  const tensors = new Map<string, TensorEntry>()
  const metadata = new Map<string, string>()
  const scanner = new JsonScanner(text)
  let current: string | undefined
  try {
    let sawMetadata = false
    for (const key of scanner.keys()) {
      current = key
      if (key === '__metadata__') {
        if (sawMetadata) scanner.fail('duplicate key "__metadata__"')
        sawMetadata = true
        if (!scanner.acceptNull()) scanner.object(entry => metadata.set(entry, scanner.string()))
        continue
      }
      if (tensors.has(key)) scanner.fail(`duplicate tensor name ${JSON.stringify(key)}`)
      if (tensors.size >= MAX_TENSORS) scanner.fail(`more than ${MAX_TENSORS} tensors`)
      tensors.set(key, scanEntry(scanner, key, dataStart, size))
      if (tensors.size % ENTRIES_PER_TURN === 0) await nextTurn()
    }
    current = undefined
    scanner.end()
  } catch (error) {
    if (!(error instanceof JsonScanError)) throw error
    throw invalidCheckpoint(name, `malformed header: ${error.message}`, {
      tensor: current,
      offset: LENGTH_BYTES + Buffer.byteLength(text.slice(0, error.position)),
    })
  }
  checkContiguous(tensors, dataStart, size, name)
  return { tensors, metadata }
}

function scanEntry(scanner: JsonScanner, name: string, dataStart: number, size: number): TensorEntry {
  let dtype: string | undefined
  let shape: number[] | undefined
  let offsets: number[] | undefined
  scanner.object(key => {
    if (key === 'dtype') dtype = scanner.string()
    else if (key === 'shape') scanner.array(() => (shape ??= []).push(scanner.unsigned()))
    else if (key === 'data_offsets') scanner.array(() => (offsets ??= []).push(scanner.unsigned()))
    else scanner.skipValue()
    if (key === 'shape') shape ??= []
  })
  if (dtype === undefined || shape === undefined || offsets === undefined) {
    return scanner.fail('a tensor needs dtype, shape and data_offsets')
  }
  const bits = DTYPE_BITS[dtype]
  if (bits === undefined) return scanner.fail(`unknown dtype ${JSON.stringify(dtype)}`)
  let elements = 1
  for (const length of shape) {
    elements *= length
    if (!Number.isSafeInteger(elements)) return scanner.fail('the shape has too many elements')
  }
  const totalBits = elements * bits
  if (!Number.isSafeInteger(totalBits)) return scanner.fail('the shape has too many elements')
  if (totalBits % 8 !== 0) return scanner.fail('the data does not end on a byte')
  const [begin, end] = offsets
  if (offsets.length !== 2 || begin === undefined || end === undefined || end < begin) {
    return scanner.fail('data_offsets is not [begin, end]')
  }
  if (end > size - dataStart) return scanner.fail('data_offsets lie outside the file')
  if (end - begin !== totalBits / 8) {
    return scanner.fail(`data_offsets span ${end - begin} bytes where dtype and shape need ${totalBits / 8}`)
  }
  return { name, dtype, shape, offset: dataStart + begin, bytes: end - begin }
}

function checkContiguous(
  tensors: Map<string, TensorEntry>,
  dataStart: number,
  size: number,
  name: string,
): void {
  const ordered = [...tensors.values()].sort((a, b) => a.offset - b.offset || a.bytes - b.bytes)
  let position = dataStart
  for (const entry of ordered) {
    if (entry.offset !== position) {
      const what = entry.offset > position ? 'a hole before' : 'an overlap with'
      throw invalidCheckpoint(name, `${what} tensor '${entry.name}'`, {
        tensor: entry.name,
        offset: entry.offset,
      })
    }
    position += entry.bytes
  }
  if (position !== size) {
    throw invalidCheckpoint(name, `the tensors end at byte ${position} of ${size}`, { offset: position })
  }
}
