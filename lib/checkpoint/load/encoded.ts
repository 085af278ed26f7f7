/** The bytes of an encoded matrix in memory, and the checks that every decoder begins with. */

import { MoeError } from '../../block/errors.js'
import { STORED_BYTES, type StoredPart, type StoredType } from '../../spec/formats.js'
import type { MatrixEncoding } from '../plan/layer-plan.js'

/** Raw bytes of one tensor, or of the slice that belongs to a matrix. */
export interface EncodedBuffer {
  bytes: Uint8Array
  type: StoredType
}

/** The tensors of one matrix. */
export type EncodedBuffers = { data: EncodedBuffer } & Partial<Record<StoredPart, EncodedBuffer>>

/** Writes row `row` of the decoded matrix to `out` from `offset`; values are f32, not yet rounded further. */
export type RowDecoder = (row: number, out: Float32Array, offset: number) => void

/** A malformed encoded matrix: ERR_MOE_INVALID_CHECKPOINT. */
export function malformed(problem: string): MoeError {
  return new MoeError('ERR_MOE_INVALID_CHECKPOINT', `Malformed weights: ${problem}`)
}

/** Checks that a buffer is there, of one of `types`, and has `count` elements. */
export function requireBuffer(
  buffer: EncodedBuffer | undefined,
  what: string,
  types: readonly StoredType[],
  count: number,
): EncodedBuffer {
  if (!buffer) throw malformed(`no ${what}`)
  if (!types.includes(buffer.type))
    throw malformed(`${what} is ${buffer.type}, expected ${types.join(' or ')}`)
  const expected = count * STORED_BYTES[buffer.type]
  if (buffer.bytes.byteLength !== expected) {
    throw malformed(`${what} has ${buffer.bytes.byteLength} bytes, expected ${expected}`)
  }
  return buffer
}

/** The scale grid of a matrix. */
export interface ScaleGrid {
  blockRows: number
  blockCols: number
  /** Scales per row of the grid. */
  numCols: number
  numRows: number
}

/** The grid of an encoding, or null where it has no scale. */
export function gridOf(encoding: MatrixEncoding, rows: number, cols: number): ScaleGrid | null {
  if (!encoding.block) return null
  const { rows: blockRows, cols: blockCols } = encoding.block
  if (!(blockRows > 0 && blockCols > 0)) throw malformed('empty scale blocks')
  return { blockRows, blockCols, numCols: Math.ceil(cols / blockCols), numRows: Math.ceil(rows / blockRows) }
}
