/** How a matrix lies in memory, whatever arithmetic reads it: `SeMatrixFormat` of the C ABI. */

import { MATRIX_CODE_BITS, type MatrixCode } from '../spec/enums.js'
import type { DType } from './dtype.js'

/** What is stored for each weight of a matrix. */
export interface WeightFormat {
  readonly code: MatrixCode
}

/** The format that a layer holds its matrices in: values of its dtype, to which every stored format is converted. */
export function heldFormat(dtype: DType): WeightFormat {
  return { code: dtype }
}

/** Bytes of a matrix. */
export function matrixBytes(format: WeightFormat, rows: number, cols: number): number {
  return (rows * cols * MATRIX_CODE_BITS[format.code]) / 8
}
