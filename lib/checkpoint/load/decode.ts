/**
 * Decodes stored matrices row by row: the oracle of the native decoder, bit for bit. Each value is formed in f32 by single rounded
 * operations, in the order that csrc/formats/decode.h states: element, times scale; NVFP4's factor (scale op global scale) first; packed
 * integers (q - zero) times scale; the scale of the column last.
 */

import { allocate } from '../../block/allocate.js'
import { FLOAT_TYPES, STORED_FORMATS, type StoredPart } from '../../spec/formats.js'
import type { MatrixEncoding } from '../plan/layer-plan.js'
import { awqRows, e2m1Rows, gptqRows, int4Rows, int8Rows, packedIntRows } from './decode-packed.js'
import { elementReader } from './elements.js'
import { type EncodedBuffers, gridOf, malformed, type RowDecoder, requireBuffer } from './encoded.js'
import { ggmlRows } from './ggml/rows.js'

/** Checks an encoding against its buffers and returns what decodes its rows. */
export function rowDecoder(
  encoding: MatrixEncoding,
  buffers: EncodedBuffers,
  rows: number,
  cols: number,
): RowDecoder {
  for (const part of Object.keys(buffers) as StoredPart[]) {
    if (buffers[part] && !STORED_FORMATS[encoding.codec].parts.includes(part)) {
      throw malformed(`${part} does not belong to ${encoding.codec}`)
    }
  }
  if (encoding.globalScaleOp === undefined && buffers.globalScale)
    throw malformed('global scale without an operation')
  if (encoding.signed && encoding.codec !== 'awq') throw malformed(`${encoding.codec} has no signed elements`)
  const decode = codecRows(encoding, buffers, rows, cols)
  const { columnScale } = buffers
  if (!columnScale) return decode
  const { bytes, type } = requireBuffer(columnScale, 'column scale', FLOAT_TYPES, cols)
  const scaleOf = elementReader(bytes, type)
  return (row, out, offset) => {
    decode(row, out, offset)
    for (let j = 0; j < cols; j++) out[offset + j] = out[offset + j]! * scaleOf(j)
  }
}

function codecRows(
  encoding: MatrixEncoding,
  buffers: EncodedBuffers,
  rows: number,
  cols: number,
): RowDecoder {
  switch (encoding.codec) {
    case 'float':
      return floatRows(encoding, buffers, rows, cols)
    case 'e2m1':
      return e2m1Rows(encoding, buffers, rows, cols)
    case 'packedInt':
      return packedIntRows(encoding, buffers, rows, cols)
    case 'int8':
      return int8Rows(encoding, buffers, rows, cols)
    case 'ggml':
      return ggmlRows(encoding, buffers, rows, cols)
    case 'int4Rows':
      return int4Rows(encoding, buffers, rows, cols)
    case 'awq':
      return awqRows(encoding, buffers, rows, cols)
    default:
      return gptqRows(encoding, buffers, rows, cols)
  }
}

function floatRows(
  encoding: MatrixEncoding,
  buffers: EncodedBuffers,
  rows: number,
  cols: number,
): RowDecoder {
  const data = requireBuffer(buffers.data, 'data', STORED_FORMATS.float.data, rows * cols)
  const read = elementReader(data.bytes, data.type)
  const [rowStride, colStride] = encoding.transposed ? [1, rows] : [cols, 1]
  const grid = gridOf(encoding, rows, cols)
  if (!grid) {
    if (buffers.scale) throw malformed('scale without a block size')
    return (row, out, offset) => {
      for (let j = 0; j < cols; j++) out[offset + j] = read(row * rowStride + j * colStride)
    }
  }
  const scale = requireBuffer(buffers.scale, 'scale', STORED_FORMATS.float.scale, grid.numRows * grid.numCols)
  const readScale = elementReader(scale.bytes, scale.type)
  return (row, out, offset) => {
    // The grid lies as the elements do.
    const [base, step] = encoding.transposed
      ? [Math.floor(row / grid.blockRows), grid.numRows]
      : [Math.floor(row / grid.blockRows) * grid.numCols, 1]
    for (let begin = 0, block = base; begin < cols; begin += grid.blockCols, block += step) {
      const factor = readScale(block)
      const end = Math.min(begin + grid.blockCols, cols)
      // Storing into the f32 array is the one rounding of the product.
      for (let j = begin; j < end; j++) out[offset + j] = read(row * rowStride + j * colStride) * factor
    }
  }
}

/**
 * Decodes a whole matrix `[rows, cols]`.
 * @throws {@link MoeError} ERR_MOE_INVALID_CHECKPOINT where the buffers do not fit the encoding
 */
export function decodeMatrix(
  encoding: MatrixEncoding,
  buffers: EncodedBuffers,
  rows: number,
  cols: number,
): Float32Array {
  const decode = rowDecoder(encoding, buffers, rows, cols)
  const out = allocate(Float32Array, rows * cols)
  for (let row = 0; row < rows; row++) decode(row, out, row * cols)
  return out
}
