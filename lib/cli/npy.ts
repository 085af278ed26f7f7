/** Arrays of floats in NumPy's file format. */

import { f16ToNumber } from '../block/dtype.js'
import { invalidArgShape, invalidArgValue } from '../block/errors.js'

const MAGIC = '\x93NUMPY'

/** How an element of each type is read; false: big-endian. */
const ELEMENTS: Record<string, { bytes: number; read(view: DataView, at: number, little: boolean): number }> =
  {
    f2: { bytes: 2, read: (view, at, little) => f16ToNumber(view.getUint16(at, little)) },
    f4: { bytes: 4, read: (view, at, little) => view.getFloat32(at, little) },
    f8: { bytes: 8, read: (view, at, little) => view.getFloat64(at, little) },
  }

/**
 * Reads `[rows, cols]` of f16, f32 or f64 (rounded to f32) of either byte order, stored by rows or by columns (Fortran order). The format is that of
 * numpy.lib.format: magic, version, header length, a Python dict, then the elements.
 *
 * @throws RangeError ERR_MOE_INVALID_ARG_VALUE, ERR_MOE_INVALID_ARG_SHAPE
 */
export function parseNpy(bytes: Buffer, file: string, cols: number): Float32Array {
  const unreadable = (why: string) =>
    invalidArgValue(file, `a .npy file of f16, f32 or f64, as numpy.save writes it (${why})`, 'another one')
  if (bytes.length < 12 || bytes.toString('latin1', 0, 6) !== MAGIC)
    throw unreadable('the magic string is missing')
  const isWide = bytes[6]! >= 2
  const begin = isWide ? 12 : 10
  const end = begin + (isWide ? bytes.readUInt32LE(8) : bytes.readUInt16LE(8))
  if (end > bytes.length) throw unreadable('the header is cut off')
  const header = bytes.toString('latin1', begin, end)
  const descr = /'descr':\s*'([^']*)'/.exec(header)?.[1]
  const order = /'fortran_order':\s*(True|False)/.exec(header)?.[1]
  const [, byteOrder, type] = /^([<>=])(f[248])$/.exec(descr ?? '') ?? []
  if (!type) throw unreadable(`its dtype is '${descr ?? '?'}': convert it with array.astype(numpy.float32)`)
  if (!order) throw unreadable('the header says no order')
  const dimensions = /'shape':\s*\(([^)]*)\)/.exec(header)?.[1] ?? ''
  const shape = dimensions.split(',').flatMap(text => (text.trim() === '' ? [] : [Number(text)]))
  const [rows] = shape
  if (shape.length !== 2 || shape[1] !== cols || !Number.isSafeInteger(rows) || rows! < 0)
    throw invalidArgShape(file, `shape [numTokens, ${cols}]`, `[${shape.join(', ')}]`)
  const { bytes: elementBytes, read } = ELEMENTS[type]!
  const expected = rows! * cols * elementBytes
  if (bytes.length - end !== expected)
    throw invalidArgShape(file, `${expected} bytes behind the header`, `${bytes.length - end}`)
  const view = new DataView(bytes.buffer, bytes.byteOffset + end, expected)
  const [rowStride, colStride] = order === 'True' ? [1, rows!] : [cols, 1]
  const values = new Float32Array(rows! * cols)
  for (let row = 0, i = 0; row < rows!; row++) {
    for (let col = 0; col < cols; col++, i++)
      values[i] = read(view, (row * rowStride + col * colStride) * elementBytes, byteOrder !== '>')
  }
  return values
}
