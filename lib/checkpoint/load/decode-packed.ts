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
    const base = Math.floor(row / grid.blockRows) * grid.numCols
    for (let block = 0; block < grid.numCols; block++) {
      const factor = factorOf(base + block)
      const end = Math.min(cols, (block + 1) * grid.blockCols)
      for (let j = block * grid.blockCols; j < end; j++) {
        const byte = bytes[(row * cols + j) >>> 1]!
        out[offset + j] = E2M1[j & 1 ? byte >> 4 : byte & 15]! * factor
      }
    }
  }
}

/** Group of each column. */
function groupsOf(buffers: EncodedBuffers, cols: number, grid: ScaleGrid): (column: number) => number {
  if (!buffers.groupIndex) return column => Math.floor(column / grid.blockCols)
  const index = int32Of(requireBuffer(buffers.groupIndex, 'group index', ['I32'], cols).bytes)
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
  const perWord = 32 / bits
  const mask = bits === 8 ? 255 : 15
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
  return (row, out, offset) => {
    const base = Math.floor(row / grid.blockRows) * grid.numCols
    for (let j = 0; j < cols; j++) {
      const block = base + Math.floor(j / grid.blockCols)
      out[offset + j] = (data[row * cols + j]! - (zeros?.[block] ?? 0)) * readScale(block)
    }
  }
}

/** AWQ packs along the output in its own order, GPTQ along the input in plain order; zero points lie along the output in both. */
export function inputMajorRows(
  encoding: MatrixEncoding,
  buffers: EncodedBuffers,
  rows: number,
  cols: number,
): RowDecoder {
  const awq = encoding.codec === 'awq'
  if (rows % 8 !== 0 || (!awq && cols % 8 !== 0))
    throw malformed(`${rows} by ${cols} does not pack into words of 8`)
  const grid = requireGrid(encoding, rows, cols)
  if (grid.blockRows !== 1) throw malformed('scales of this codec are per output feature')
  if (awq && buffers.groupIndex) throw malformed('awq has no group index')
  const words = wordsOf(
    requireBuffer(buffers.data, 'data', STORED_FORMATS[encoding.codec].data, (rows * cols) / 8).bytes,
  )
  const numGroups = grid.numCols
  const zeros = wordsOf(requireBuffer(buffers.zeroPoint, 'zero point', ['I32'], (numGroups * rows) / 8).bytes)
  const scale = requireBuffer(buffers.scale, 'scale', STORED_FORMATS[encoding.codec].scale, numGroups * rows)
  const readScale = elementReader(scale.bytes, scale.type)
  const group = groupsOf(buffers, cols, grid)
  const added = awq ? 0 : (encoding.zeroOffset ?? 0)
  const wordsPerLine = rows / 8
  return (row, out, offset) => {
    const column = row >>> 3
    const shift = 4 * (awq ? AWQ_NIBBLE[row & 7]! : row & 7)
    for (let j = 0; j < cols; j++) {
      const g = group(j)
      const q = awq
        ? (words[j * wordsPerLine + column]! >>> shift) & 15
        : (words[(j >>> 3) * rows + row]! >>> (4 * (j & 7))) & 15
      const zero = ((zeros[g * wordsPerLine + column]! >>> shift) & 15) + added
      out[offset + j] = (q - zero) * readScale(g * rows + row)
    }
  }
}
