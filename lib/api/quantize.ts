/** Quantising and decoding single matrices, by the arithmetic that loading uses. */

import { allocate } from '../block/allocate.js'
import { type DType, type FloatArray, readElement } from '../block/dtype.js'
import { invalidArgShape, invalidArgType, invalidArgValue } from '../block/errors.js'
import { QUANTIZED_BLOCK, quantizeBlock } from '../block/quantize.js'
import { isFloat32Array, isUint16Array } from '../block/typed-arrays.js'
import type { QuantizedMatrix } from '../block/weights.js'
import { decodeQuantized, isQuantizedMatrix } from '../checkpoint/load/quantized-matrix.js'

function checkSize(rows: number, cols: number): void {
  for (const [name, value] of [
    ['rows', rows],
    ['cols', cols],
  ] as const) {
    if (typeof value !== 'number') throw invalidArgType(name, 'a number', value)
    if (!Number.isSafeInteger(value) || value < 1) throw invalidArgValue(name, 'a positive integer', value)
  }
}

/**
 * Quantises a matrix in blocks of 32 columns with an f16 scale each: what `weights: 'int8'` and `'int4'` do while they load, and what
 * ggml's Q8_0 and Q4_0 are.
 *
 * @param matrix `[rows, cols]` row-major: f32, or the bits of `dtype`
 * @param format 'int8': 8.5 bits per weight; 'int4': 4.5
 * @param dtype what a `Uint16Array` holds @defaultValue 'bf16'
 * @returns what `MoeLayer.create` takes in place of the matrix. A block with a value that is not finite becomes NaN
 * @throws TypeError and RangeError with ERR_MOE_INVALID_ARG_*; {@link MoeError} ERR_MOE_OUT_OF_MEMORY
 */
export function quantize(
  matrix: FloatArray,
  rows: number,
  cols: number,
  format: 'int8' | 'int4',
  dtype: 'f16' | 'bf16' = 'bf16',
): QuantizedMatrix {
  checkSize(rows, cols)
  if (format !== 'int8' && format !== 'int4') throw invalidArgValue('format', "'int8' or 'int4'", format)
  const isF32 = isFloat32Array(matrix)
  if (!isF32 && !isUint16Array(matrix))
    throw invalidArgType('matrix', 'a Float32Array or a Uint16Array', matrix)
  if (matrix.length !== rows * cols)
    throw invalidArgShape('matrix', `[${rows}, ${cols}] = ${rows * cols} elements`, `${matrix.length}`)
  if (dtype !== 'f16' && dtype !== 'bf16') throw invalidArgValue('dtype', "'f16' or 'bf16'", dtype)
  const elements: DType = isF32 ? 'f32' : dtype
  const bits = format === 'int8' ? 8 : 4
  const blocks = Math.ceil(cols / QUANTIZED_BLOCK)
  const rowBytes = bits === 8 ? cols : 4 * Math.ceil(cols / 8)
  const data = allocate(Uint8Array, rows * rowBytes)
  const scales = allocate(Uint16Array, rows * blocks)
  const values = allocate(Float32Array, cols)
  const codes = allocate(Uint8Array, QUANTIZED_BLOCK)
  for (let row = 0; row < rows; row++) {
    for (let col = 0; col < cols; col++) values[col] = readElement(matrix, row * cols + col, elements)
    for (let block = 0; block < blocks; block++) {
      const first = block * QUANTIZED_BLOCK
      const count = Math.min(QUANTIZED_BLOCK, cols - first)
      scales[row * blocks + block] = quantizeBlock(bits, values, first, count, codes, 0)
      for (let i = 0; i < count; i++) {
        const col = first + i
        if (bits === 8) data[row * rowBytes + col] = codes[i]!
        else data[row * rowBytes + (col >> 1)]! |= codes[i]! << (4 * (col & 1))
      }
    }
  }
  return { format, data, scales }
}

/**
 * The weights of a quantised matrix in f32, `[rows, cols]` row-major: exactly those that a layer multiplies by.
 *
 * @throws TypeError and RangeError with ERR_MOE_INVALID_ARG_*; {@link MoeError} ERR_MOE_OUT_OF_MEMORY
 */
export function dequantize(matrix: QuantizedMatrix, rows: number, cols: number): Float32Array {
  checkSize(rows, cols)
  if (!isQuantizedMatrix(matrix)) throw invalidArgType('matrix', 'a quantised matrix', matrix)
  return decodeQuantized(matrix, rows, cols, 'matrix')
}
