/** The codecs of integers and packed elements: e2m1 pairs, compressed-tensors integers, AWQ and GPTQ. */

import { STORED_FORMATS } from '../../spec/formats.js'
import type { MatrixEncoding } from '../plan/layer-plan.js'
import { E2M1, elementReader, int32Of, wordsOf } from './elements.js'
import {
  type EncodedBuffers,
  gridOf,
  malformed,
  type RowDecoder,
  requireBuffer,
  type ScaleGrid,
} from './encoded.js'

/** AWQ: the nibble that holds logical column 8c + j. */
const AWQ_NIBBLE = [0, 4, 1, 5, 2, 6, 3, 7]

function requireGrid(encoding: MatrixEncoding, rows: number, cols: number): ScaleGrid {
  const grid = gridOf(encoding, rows, cols)
  if (!grid) throw malformed('no scale blocks')
  return grid
}

/** Two per byte, the low nibble first. */
export function e2m1Rows(
  encoding: MatrixEncoding,
  buffers: EncodedBuffers,
  rows: number,
  cols: number,
): RowDecoder {
  if (cols % 2 !== 0) throw malformed('an odd number of columns does not pack into bytes')
  const { bytes } = requireBuffer(buffers.data, 'data', STORED_FORMATS.e2m1.data, (rows * cols) / 2)
  const { transposed } = encoding
  const grid = requireGrid(encoding, rows, cols)
  const scale = requireBuffer(buffers.scale, 'scale', STORED_FORMATS.e2m1.scale, grid.numRows * grid.numCols)
  const readScale = elementReader(scale.bytes, scale.type)
  const operation = encoding.globalScaleOp
  let global = 1
  if (operation) {
    const buffer = requireBuffer(buffers.globalScale, 'global scale', ['F32'], 1)
    global = elementReader(buffer.bytes, buffer.type)(0)
  }
  const factorOf = (index: number) => {
    const value = readScale(index)
    if (!operation) return value
    return Math.fround(operation === 'multiply' ? value * global : value / global)
  }
  return (row, out, offset) => {
    const gridRow = Math.floor(row / grid.blockRows)
    for (let block = 0; block < grid.numCols; block++) {
      const factor = factorOf(transposed ? block * grid.numRows + gridRow : gridRow * grid.numCols + block)
      const end = Math.min(cols, (block + 1) * grid.blockCols)
      for (let j = block * grid.blockCols; j < end; j++) {
        const byte = bytes[transposed ? (j >>> 1) * rows + row : (row * cols + j) >>> 1]!
        out[offset + j] = E2M1[j & 1 ? byte >> 4 : byte & 15]! * factor
      }
    }
  }
}

/** Group of each column. */
function groupsOf(buffers: EncodedBuffers, cols: number, grid: ScaleGrid): (column: number) => number {
  if (!buffers.groupIndex) return column => Math.floor(column / grid.blockCols)
  const index = int32Of(requireBuffer(buffers.groupIndex, 'group index', ['I32'], cols).bytes)
  // An index that was never set: the columns are in order.
  if (index.every(group => group === -1)) return column => Math.floor(column / grid.blockCols)
  for (const group of index) if (group < 0 || group >= grid.numCols) throw malformed(`group index ${group}`)
  return column => index[column]!
}

/** compressed-tensors: words along the columns, offset 2^(bits - 1); zero points packed along the rows. */
export function packedIntRows(
  encoding: MatrixEncoding,
  buffers: EncodedBuffers,
  rows: number,
  cols: number,
): RowDecoder {
  const bits = encoding.bits ?? 4
  if (32 % bits !== 0) throw malformed(`${bits} bits do not fill words`)
  const perWord = 32 / bits
  const mask = 2 ** bits - 1
  const middle = (mask + 1) / 2
  const wordsPerRow = Math.ceil(cols / perWord)
  const grid = requireGrid(encoding, rows, cols)
  const words = wordsOf(
    requireBuffer(buffers.data, 'data', STORED_FORMATS.packedInt.data, rows * wordsPerRow).bytes,
  )
  const scale = requireBuffer(
    buffers.scale,
    'scale',
    STORED_FORMATS.packedInt.scale,
    grid.numRows * grid.numCols,
  )
  const readScale = elementReader(scale.bytes, scale.type)
  const group = groupsOf(buffers, cols, grid)
  let zeros: Uint32Array | undefined
  if (buffers.zeroPoint) {
    if (grid.blockRows !== 1) throw malformed('zero points need scales per row')
    const count = Math.ceil(rows / perWord) * grid.numCols
    zeros = wordsOf(requireBuffer(buffers.zeroPoint, 'zero point', ['I32'], count).bytes)
  }
  return (row, out, offset) => {
    const base = Math.floor(row / grid.blockRows) * grid.numCols
    for (let j = 0; j < cols; j++) {
      const word = words[row * wordsPerRow + Math.floor(j / perWord)]!
      const q = (word >>> ((j % perWord) * bits)) & mask
      const g = group(j)
      const zeroWord = zeros?.[Math.floor(row / perWord) * grid.numCols + g]
      const zero = zeroWord === undefined ? middle : (zeroWord >>> ((row % perWord) * bits)) & mask
      out[offset + j] = (q - zero) * readScale(base + g)
    }
  }
}

/** compressed-tensors "int-quantized": one signed byte each; zero points of the same kind, one per scale. */
export function int8Rows(
  encoding: MatrixEncoding,
  buffers: EncodedBuffers,
  rows: number,
  cols: number,
): RowDecoder {
  const grid = requireGrid(encoding, rows, cols)
  const numScales = grid.numRows * grid.numCols
  const signed = (bytes: Uint8Array) => new Int8Array(bytes.buffer, bytes.byteOffset, bytes.length)
  const data = signed(requireBuffer(buffers.data, 'data', STORED_FORMATS.int8.data, rows * cols).bytes)
  const scale = requireBuffer(buffers.scale, 'scale', STORED_FORMATS.int8.scale, numScales)
  const readScale = elementReader(scale.bytes, scale.type)
  const zeros =
    buffers.zeroPoint && signed(requireBuffer(buffers.zeroPoint, 'zero point', ['I8'], numScales).bytes)
  const group = groupsOf(buffers, cols, grid)
  return (row, out, offset) => {
    const base = Math.floor(row / grid.blockRows) * grid.numCols
    for (let j = 0; j < cols; j++) {
      const block = base + group(j)
      out[offset + j] = (data[row * cols + j]! - (zeros?.[block] ?? 0)) * readScale(block)
    }
  }
}

/** ModelOpt's int4: two rows to a byte, the even one in the lower nibble, two's complement. */
export function int4Rows(
  encoding: MatrixEncoding,
  buffers: EncodedBuffers,
  rows: number,
  cols: number,
): RowDecoder {
  if (rows % 2 !== 0) throw malformed(`${rows} rows do not fill pairs`)
  const grid = requireGrid(encoding, rows, cols)
  const { data, scale: types } = STORED_FORMATS.int4Rows
  const { bytes } = requireBuffer(buffers.data, 'data', data, (rows / 2) * cols)
  const scale = requireBuffer(buffers.scale, 'scale', types, grid.numRows * grid.numCols)
  const readScale = elementReader(scale.bytes, scale.type)
  return (row, out, offset) => {
    const base = Math.floor(row / grid.blockRows) * grid.numCols
    for (let j = 0; j < cols; j++) {
      const nibble = (bytes[(row >>> 1) * cols + j]! >> (4 * (row & 1))) & 15
      out[offset + j] = ((nibble ^ 8) - 8) * readScale(base + Math.floor(j / grid.blockCols))
    }
  }
}

/** Scales and zero points of the formats that are packed input-major: one per output feature and group. */
function inputMajorGrid(encoding: MatrixEncoding, buffers: EncodedBuffers, rows: number, cols: number) {
  const grid = requireGrid(encoding, rows, cols)
  if (grid.blockRows !== 1) throw malformed('scales of this codec are per output feature')
  const count = grid.numCols * rows
  const scale = requireBuffer(buffers.scale, 'scale', STORED_FORMATS[encoding.codec].scale, count)
  return { grid, readScale: elementReader(scale.bytes, scale.type) }
}

/** AWQ packs along the output in its own order; Quark's signed integers lie in the same one. */
export function awqRows(
  encoding: MatrixEncoding,
  buffers: EncodedBuffers,
  rows: number,
  cols: number,
): RowDecoder {
  if (rows % 8 !== 0) throw malformed(`${rows} by ${cols} does not pack into words of 8`)
  const { grid, readScale } = inputMajorGrid(encoding, buffers, rows, cols)
  if (buffers.groupIndex) throw malformed('awq has no group index')
  const words = wordsOf(requireBuffer(buffers.data, 'data', STORED_FORMATS.awq.data, (rows * cols) / 8).bytes)
  const numZeros = (grid.numCols * rows) / 8
  const zeros =
    buffers.zeroPoint && wordsOf(requireBuffer(buffers.zeroPoint, 'zero point', ['I32'], numZeros).bytes)
  // Flipping the sign of two's complement counts from -8: q - zero is the same.
  const flipped = encoding.signed ? 8 : 0
  const group = groupsOf(buffers, cols, grid)
  const wordsPerLine = rows / 8
  return (row, out, offset) => {
    const column = row >>> 3
    const shift = 4 * AWQ_NIBBLE[row & 7]!
    for (let j = 0; j < cols; j++) {
      const g = group(j)
      const q = ((words[j * wordsPerLine + column]! >>> shift) & 15) ^ flipped
      const zero = zeros ? ((zeros[g * wordsPerLine + column]! >>> shift) & 15) ^ flipped : 8
      out[offset + j] = (q - zero) * readScale(g * rows + row)
    }
  }
}

/** Element `index` of elements without gaps between words, the first in the lowest bits; the words of a line are `stride` apart. */
function elementAt(words: Uint32Array, first: number, stride: number, index: number, bits: number): number {
  const bit = index * bits
  const at = first + Math.floor(bit / 32) * stride
  const shift = bit % 32
  const low = words[at]! >>> shift
  const value = shift + bits > 32 ? low | (words[at + stride]! << (32 - shift)) : low
  return value & (2 ** bits - 1)
}

/**
 * GPTQ packs along the input in plain order, its zero points along the output; none: 2^(bits - 1). The format `gptq` takes 1 from every
 * zero point by taking 0x11…1 from the whole word, where a 0 borrows from its neighbour: adding it to the whole word gives all of them back.
 * Three bits cross words, and are taken one by one.
 */
export function gptqRows(
  encoding: MatrixEncoding,
  buffers: EncodedBuffers,
  rows: number,
  cols: number,
): RowDecoder {
  const bits = encoding.bits ?? 4
  const mask = 2 ** bits - 1
  const numWords = (cols * bits) / 32
  const wordsPerLine = (rows * bits) / 32
  if (!Number.isInteger(numWords)) throw malformed(`${cols} columns of ${bits} bits fill no words`)
  if (buffers.zeroPoint && !Number.isInteger(wordsPerLine))
    throw malformed(`zero points of ${rows} rows of ${bits} bits fill no words`)
  const { grid, readScale } = inputMajorGrid(encoding, buffers, rows, cols)
  const words = wordsOf(requireBuffer(buffers.data, 'data', STORED_FORMATS.gptq.data, numWords * rows).bytes)
  const stored =
    buffers.zeroPoint &&
    wordsOf(requireBuffer(buffers.zeroPoint, 'zero point', ['I32'], grid.numCols * wordsPerLine).bytes)
  const inWords = encoding.zeroOffset && bits !== 3 ? 0xffffffff / mask : 0
  const inElements = encoding.zeroOffset && bits === 3 ? 1 : 0
  const zeros = stored?.map(word => word + inWords)
  const group = groupsOf(buffers, cols, grid)
  return (row, out, offset) => {
    for (let j = 0; j < cols; j++) {
      const g = group(j)
      const q = elementAt(words, row, rows, j, bits)
      const zero = zeros
        ? (elementAt(zeros, g * wordsPerLine, 1, row, bits) + inElements) & mask
        : (mask + 1) / 2
      out[offset + j] = (q - zero) * readScale(g * rows + row)
    }
  }
}
