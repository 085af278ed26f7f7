/**
 * The header of a safetensors file, checked as strictly as the reference implementation does: length cap, UTF-8, JSON, no duplicate
 * names, shape times dtype without overflow, data without holes or overlaps that ends exactly where the file ends.
 */

import { allocate } from '../block/allocate.js'
import { DTYPE_BITS } from '../spec/formats.js'
import { otherThan, PROBE_BYTES } from './diagnosis.js'
import { AGAIN, DAMAGED, invalidCheckpoint } from './invalid.js'
import { JsonScanError, JsonScanner, quoted } from './json-scanner.js'
import { Pacer, textOf } from './pacer.js'
import { type ReadableFile, readFully } from './regular-file.js'

/** The cap of the reference implementation. */
export const MAX_HEADER_BYTES = 100_000_000

/** Most tensors of a file. The largest published models have 200,000 tensors in 60 files. */
export const MAX_TENSORS = 262_144

/** Most dimensions of a tensor; frameworks stop at 64 themselves. */
const MAX_RANK = 64

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

/**
 * Reads and checks the header of a file of `size` bytes; no other byte is read.
 * @throws {@link MoeError} ERR_MOE_INVALID_CHECKPOINT, with `details` {file, tensor?, offset?}
 */
export async function readSafetensorsHeader(
  file: ReadableFile,
  size: number,
  name: string,
  pacer = new Pacer(),
  maxTensors = MAX_TENSORS,
): Promise<SafetensorsHeader> {
  const prefix = allocate(Uint8Array, Math.min(size, PROBE_BYTES))
  await readFully(file, prefix, 0, name, pacer.signal)
  const instead = otherThan(prefix)
  if (instead) throw invalidCheckpoint(name, instead, { offset: 0 })
  if (size < LENGTH_BYTES)
    throw invalidCheckpoint(name, `${size} bytes are too few for a safetensors file; ${AGAIN}`)
  const declared = new DataView(prefix.buffer).getBigUint64(0, true)
  if (declared > BigInt(MAX_HEADER_BYTES)) {
    const problem = `header of ${declared} bytes is above the cap of ${MAX_HEADER_BYTES}, so that this is no safetensors file; ${DAMAGED}`
    throw invalidCheckpoint(name, problem, { offset: 0 })
  }
  const headerBytes = Number(declared)
  if (LENGTH_BYTES + headerBytes > size) {
    throw invalidCheckpoint(
      name,
      `header of ${headerBytes} bytes does not fit a file of ${size} bytes; ${AGAIN}`,
      {
        offset: 0,
      },
    )
  }
  const header = allocate(Uint8Array, headerBytes)
  await readFully(file, header, LENGTH_BYTES, name, pacer.signal)
  return parseSafetensorsHeader(header, size, name, pacer, maxTensors)
}

/** As {@link readSafetensorsHeader}, for header bytes that are in memory; `size` is that of the whole file. */
export async function parseSafetensorsHeader(
  header: Uint8Array,
  size: number,
  name: string,
  pacer = new Pacer(),
  maxTensors = MAX_TENSORS,
): Promise<SafetensorsHeader> {
  const dataStart = LENGTH_BYTES + header.byteLength
  const text = await textOf(header, pacer, () => invalidCheckpoint(name, 'the header is not UTF-8'))
  if (text[0] !== '{')
    throw invalidCheckpoint(name, `the header does not begin with '{'; ${DAMAGED}`, { offset: LENGTH_BYTES })

  const tensors = new Map<string, TensorEntry>()
  const metadata = new Map<string, string>()
  const scanner = new JsonScanner(text)
  let current: string | undefined
  try {
    let sawMetadata = false
    // One key more: __metadata__.
    for (const key of scanner.keys(maxTensors + 1)) {
      current = key
      if (key === '__metadata__') {
        if (sawMetadata) scanner.fail('duplicate key "__metadata__"')
        sawMetadata = true
        if (!scanner.acceptNull()) {
          for (const entry of scanner.keys()) {
            if (metadata.has(entry)) scanner.fail(`duplicate key ${quoted(entry)}`)
            metadata.set(entry, scanner.string())
            if (pacer.due) await pacer.turn()
          }
        }
        continue
      }
      if (tensors.has(key)) scanner.fail(`duplicate tensor name ${quoted(key)}`)
      tensors.set(key, scanEntry(scanner, key, dataStart, size))
      if (pacer.due) await pacer.turn()
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
    const list: number[] = []
    if (key === 'dtype') dtype = scanner.string()
    else if (key === 'shape') {
      scanner.array(MAX_RANK, () => list.push(scanner.unsigned()))
      shape = list
    } else if (key === 'data_offsets') {
      scanner.array(3, () => list.push(scanner.unsigned()))
      offsets = list
    } else scanner.fail(`unknown key ${quoted(key)}`)
  })
  if (dtype === undefined || shape === undefined || offsets === undefined) {
    return scanner.fail('a tensor needs dtype, shape and data_offsets')
  }
  const bits = DTYPE_BITS[dtype]
  if (bits === undefined) return scanner.fail(`unknown dtype ${quoted(dtype)}`)
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
  if (end > size - dataStart) {
    const missing = end - (size - dataStart)
    return scanner.fail(
      `data_offsets lie outside the file, which is ${missing} or more bytes too short; ${AGAIN}`,
    )
  }
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
    throw invalidCheckpoint(name, `the tensors end at byte ${position} of ${size}; ${DAMAGED}`, {
      offset: position,
    })
  }
}
