/** Hidden states for `run`: from a file, or random ones. */

import { readFile } from 'node:fs/promises'
import path from 'node:path'
import { f16ToNumber } from '../block/dtype.js'
import { invalidArgShape, invalidArgValue, MoeError } from '../block/errors.js'

/** Uniform numbers in [0, 1) from a seed (mulberry32). */
export function uniformSource(seed: number): () => number {
  let state = seed >>> 0
  return () => {
    state = (state + 0x6d2b79f5) >>> 0
    let mixed = Math.imul(state ^ (state >>> 15), state | 1)
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61)
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32
  }
}

/** `[numTokens, hiddenSize]` standard normal: the scale of a block's input, which is behind a norm. */
export function randomHiddenStates(
  numTokens: number,
  hiddenSize: number,
  seed: number,
): Float32Array<ArrayBuffer> {
  const uniform = uniformSource(seed)
  const values = new Float32Array(numTokens * hiddenSize)
  for (let i = 0; i < values.length; i += 2) {
    const radius = Math.sqrt(-2 * Math.log(1 - uniform()))
    const angle = 2 * Math.PI * uniform()
    values[i] = radius * Math.cos(angle)
    if (i + 1 < values.length) values[i + 1] = radius * Math.sin(angle)
  }
  return values
}

/**
 * Reads `[numTokens, hiddenSize]`: `.npy` (f32 or f16, C order), `.json` (an array of rows, or a flat array), anything else as raw
 * little-endian f32.
 *
 * @throws {@link MoeError} ERR_MOE_IO; RangeError ERR_MOE_INVALID_ARG_SHAPE, ERR_MOE_INVALID_ARG_VALUE
 */
export async function readHiddenStates(file: string, hiddenSize: number): Promise<Float32Array> {
  let bytes: Buffer
  try {
    bytes = await readFile(file)
  } catch (error) {
    throw new MoeError('ERR_MOE_IO', `${file} could not be read: ${(error as Error).message}`, {
      cause: error,
    })
  }
  const extension = path.extname(file).toLowerCase()
  if (extension === '.npy') return parseNpy(bytes, file, hiddenSize)
  if (extension === '.json') return parseJson(bytes, file, hiddenSize)
  if (bytes.byteLength % (4 * hiddenSize) !== 0) {
    throw invalidArgShape(
      file,
      `rows of ${hiddenSize} f32 values (${4 * hiddenSize} bytes each)`,
      `${bytes.byteLength} bytes`,
    )
  }
  return floatsOf(bytes, 4)
}

function floatsOf(bytes: Buffer, elementBytes: 2 | 4): Float32Array {
  // A copy, because the bytes may begin anywhere.
  const { buffer } = new Uint8Array(bytes)
  if (elementBytes === 4) return new Float32Array(buffer)
  return Float32Array.from(new Uint16Array(buffer), f16ToNumber)
}

/** The format of numpy.lib.format: magic, version, header length, a Python dict, then the elements. */
function parseNpy(bytes: Buffer, file: string, hiddenSize: number): Float32Array {
  const unreadable = (why: string) =>
    invalidArgValue(file, `a .npy file of f32 or f16 (${why})`, 'another one')
  if (bytes.length < 12 || bytes.toString('latin1', 0, 6) !== '\x93NUMPY')
    throw unreadable('the magic string is missing')
  const wide = bytes[6]! >= 2
  const begin = wide ? 12 : 10
  const end = begin + (wide ? bytes.readUInt32LE(8) : bytes.readUInt16LE(8))
  if (end > bytes.length) throw unreadable('the header is cut off')
  const header = bytes.toString('latin1', begin, end)
  const descr = /'descr':\s*'([^']*)'/.exec(header)?.[1]
  const dimensions = /'shape':\s*\(([^)]*)\)/.exec(header)?.[1]
  if (descr !== '<f4' && descr !== '<f2') throw unreadable(`dtype '${descr ?? '?'}' is not '<f4' or '<f2'`)
  if (!/'fortran_order':\s*False/.test(header))
    throw unreadable('Fortran order; save it with numpy.ascontiguousarray')
  const shape = (dimensions ?? '').split(',').flatMap(text => (text.trim() === '' ? [] : [Number(text)]))
  if (shape.length !== 2 || shape[1] !== hiddenSize) {
    throw invalidArgShape(file, `shape [numTokens, ${hiddenSize}]`, `[${shape.join(', ')}]`)
  }
  const elementBytes = descr === '<f4' ? 4 : 2
  const expected = shape[0]! * hiddenSize * elementBytes
  if (bytes.length - end !== expected) {
    throw invalidArgShape(file, `${expected} bytes behind the header`, `${bytes.length - end}`)
  }
  return floatsOf(bytes.subarray(end), elementBytes)
}

function parseJson(bytes: Buffer, file: string, hiddenSize: number): Float32Array {
  let parsed: unknown
  try {
    parsed = JSON.parse(bytes.toString('utf8'))
  } catch (error) {
    throw invalidArgValue(file, `JSON (${(error as Error).message})`, 'another text')
  }
  if (!Array.isArray(parsed)) throw invalidArgValue(file, 'a JSON array', parsed)
  const rows: unknown[][] = parsed.every(Array.isArray) ? parsed : [parsed]
  for (const row of rows) {
    const fits = parsed === rows ? row.length === hiddenSize : row.length % hiddenSize === 0
    if (!fits) throw invalidArgShape(file, `rows of ${hiddenSize} numbers`, `${row.length}`)
  }
  const values = rows.flat()
  const at = values.findIndex(value => typeof value !== 'number')
  if (at >= 0) throw invalidArgValue(`${file}[${at}]`, 'a number', values[at])
  return Float32Array.from(values as number[])
}
