/** Quantised matrices in memory: what users give, as the encodings and buffers that every reader takes. */

import { allocate } from '../../block/allocate.js'
import { invalidArgShape, invalidArgType, invalidArgValue } from '../../block/errors.js'
import { typedArrayKind } from '../../block/typed-arrays.js'
import { QUANTIZED_FORMATS, type QuantizedMatrix, type ScaleType } from '../../block/weights.js'
import { STORED_BYTES, STORED_ELEMENTS, type StoredType } from '../../spec/formats.js'
import type { MatrixEncoding } from '../plan/layer-plan.js'
import { ggmlType } from '../plan/stored-as.js'
import { decodeMatrix } from './decode.js'
import type { EncodedBuffer, EncodedBuffers } from './encoded.js'

/** A quantised matrix as a reader takes it. */
export interface InMemoryMatrix {
  encoding: MatrixEncoding
  buffers: EncodedBuffers
}

const SCALE_TYPES: Readonly<Record<ScaleType, StoredType>> = {
  f32: 'F32',
  f16: 'F16',
  bf16: 'BF16',
  e8m0: 'F8_E8M0',
  e4m3: 'F8_E4M3',
}

/** What a format's scales are, and how many columns share one, where the matrix does not say. */
const DEFAULTS: Readonly<
  Record<string, { scaleType: ScaleType; groupSize: number; types: readonly ScaleType[] }>
> = {
  int8: { scaleType: 'f16', groupSize: 32, types: ['f32', 'f16', 'bf16'] },
  int4: { scaleType: 'f16', groupSize: 32, types: ['f32', 'f16', 'bf16'] },
  fp8: { scaleType: 'f32', groupSize: 128, types: ['f32', 'f16', 'bf16', 'e8m0'] },
  mxfp4: { scaleType: 'e8m0', groupSize: 32, types: ['e8m0'] },
  nvfp4: { scaleType: 'e4m3', groupSize: 16, types: ['e4m3'] },
}

/** Whether a value is meant as a {@link QuantizedMatrix}. */
export function isQuantizedMatrix(value: unknown): value is QuantizedMatrix {
  return typeof value === 'object' && value !== null && !ArrayBuffer.isView(value) && 'format' in value
}

const ceilDiv = (a: number, b: number) => Math.ceil(a / b)

/** The bytes of a typed array. */
function bytesOf(value: unknown, name: string): Uint8Array {
  if (typedArrayKind(value) === undefined) throw invalidArgType(name, 'a typed array', value)
  const { buffer, byteOffset, byteLength } = value as Uint8Array
  // A buffer that is gone has no bytes, and can have no views.
  return byteLength === 0 ? allocate(Uint8Array, 0) : new Uint8Array(buffer, byteOffset, byteLength)
}

const oneFloat = (value: number): EncodedBuffer => ({
  bytes: bytesOf(Float32Array.of(value), 'globalScale'),
  type: 'F32',
})

function buffer(value: unknown, type: StoredType, count: number, name: string): EncodedBuffer {
  const bytes = bytesOf(value, name)
  const expected = count * STORED_BYTES[type]
  if (bytes.byteLength !== expected)
    throw invalidArgShape(name, `${expected} bytes (${count} of ${type})`, `${bytes.byteLength}`)
  return { bytes, type }
}

function positive(value: unknown, name: string, fallback: number): number {
  if (value === undefined) return fallback
  if (typeof value !== 'number') throw invalidArgType(name, 'a number', value)
  if (!Number.isSafeInteger(value) || value < 1) throw invalidArgValue(name, 'a positive integer', value)
  return value
}

/** Zero points `[rows, groups]`, a byte each, packed along the rows as `packedInt` has them: eight rows to a word. */
function packedZeros(zeros: unknown, rows: number, groups: number, name: string): EncodedBuffer {
  const { bytes } = buffer(zeros, 'U8', rows * groups, name)
  const packed = allocate(Uint8Array, ceilDiv(rows, 8) * groups * 4)
  for (let row = 0; row < rows; row++) {
    for (let group = 0; group < groups; group++) {
      const zero = bytes[row * groups + group]!
      if (zero > 15) throw invalidArgValue(name, 'zero points from 0 to 15', zero)
      packed[(Math.floor(row / 8) * groups + group) * 4 + ((row % 8) >> 1)]! |= zero << (4 * (row & 1))
    }
  }
  return { bytes: packed, type: 'I32' }
}

/**
 * Checks a quantised matrix `[rows, cols]`.
 *
 * @param name for messages
 * @throws TypeError and RangeError with ERR_MOE_INVALID_ARG_*
 */
export function inMemoryMatrix(
  matrix: QuantizedMatrix,
  rows: number,
  cols: number,
  name: string,
): InMemoryMatrix {
  const { format, data, scales, zeros, globalScale, groupIndex } = matrix
  if (!QUANTIZED_FORMATS.includes(format))
    throw invalidArgValue(`${name}.format`, QUANTIZED_FORMATS.map(one => `'${one}'`).join(', '), format)
  const defaults = DEFAULTS[format]
  if (!defaults) return ggmlMatrix(matrix, rows, cols, name)
  const groupSize = positive(matrix.groupSize, `${name}.groupSize`, defaults.groupSize)
  const blockRows = positive(matrix.blockRows, `${name}.blockRows`, format === 'fp8' ? 128 : 1)
  const groups = ceilDiv(cols, groupSize)
  const gridRows = ceilDiv(rows, blockRows)
  const scaleType = matrix.scaleType ?? defaults.scaleType
  if (!defaults.types.includes(scaleType))
    throw invalidArgValue(`${name}.scaleType`, defaults.types.map(one => `'${one}'`).join(' or '), scaleType)
  const block = { rows: blockRows, cols: groupSize }
  const rest: Omit<EncodedBuffers, 'data'> = {
    scale: buffer(scales, SCALE_TYPES[scaleType], gridRows * groups, `${name}.scales`),
    ...(groupIndex ? { groupIndex: buffer(groupIndex, 'I32', cols, `${name}.groupIndex`) } : {}),
  }
  const refuse = (value: unknown, what: string) => {
    if (value !== undefined)
      throw invalidArgValue(`${name}.${what}`, `nothing with format '${format}'`, value)
  }
  if (format !== 'nvfp4') refuse(globalScale, 'globalScale')
  if (format !== 'int8' && format !== 'int4') {
    refuse(zeros, 'zeros')
    refuse(groupIndex, 'groupIndex')
  }
  switch (format) {
    case 'int8':
      return {
        encoding: { codec: 'int8', block },
        buffers: {
          data: buffer(data, 'I8', rows * cols, `${name}.data`),
          ...rest,
          ...(zeros ? { zeroPoint: buffer(zeros, 'I8', gridRows * groups, `${name}.zeros`) } : {}),
        },
      }
    case 'int4':
      if (zeros && blockRows !== 1)
        throw invalidArgValue(`${name}.blockRows`, '1 with zero points', blockRows)
      return {
        encoding: { codec: 'packedInt', bits: 4, block },
        buffers: {
          data: buffer(data, 'I32', rows * ceilDiv(cols, 8), `${name}.data`),
          ...rest,
          ...(zeros ? { zeroPoint: packedZeros(zeros, rows, groups, `${name}.zeros`) } : {}),
        },
      }
    case 'fp8':
      return {
        encoding: { codec: 'float', block },
        buffers: { data: buffer(data, 'F8_E4M3', rows * cols, `${name}.data`), ...rest },
      }
    default: {
      if (cols % 2 !== 0) throw invalidArgShape(name, 'an even number of columns', `${cols}`)
      const codes = buffer(data, 'U8', (rows * cols) / 2, `${name}.data`)
      if (format === 'mxfp4') return { encoding: { codec: 'e2m1', block }, buffers: { data: codes, ...rest } }
      if (typeof globalScale !== 'number')
        throw invalidArgType(`${name}.globalScale`, 'a number, which multiplies the scales', globalScale)
      return {
        encoding: { codec: 'e2m1', block, globalScaleOp: 'multiply' },
        buffers: {
          data: codes,
          ...rest,
          globalScale: oneFloat(globalScale),
        },
      }
    }
  }
}

/** Blocks of a ggml type hold their scales. */
function ggmlMatrix(matrix: QuantizedMatrix, rows: number, cols: number, name: string): InMemoryMatrix {
  const { format, data, globalScale } = matrix
  const type = ggmlType(format)
  for (const part of ['scales', 'scaleType', 'zeros', 'groupSize', 'blockRows', 'groupIndex'] as const) {
    if (matrix[part] !== undefined)
      throw invalidArgValue(`${name}.${part}`, `nothing: blocks of '${format}' hold it`, matrix[part])
  }
  const elements = STORED_ELEMENTS[type]
  if (cols % elements !== 0)
    throw invalidArgShape(name, `a multiple of ${elements} columns in '${format}'`, `${cols}`)
  const buffers: EncodedBuffers = { data: buffer(data, type, (rows * cols) / elements, `${name}.data`) }
  if (globalScale === undefined) return { encoding: { codec: 'ggml' }, buffers }
  if (type !== 'NVFP4') throw invalidArgValue(`${name}.globalScale`, `nothing with '${format}'`, globalScale)
  return {
    encoding: { codec: 'ggml', globalScaleOp: 'multiply' },
    buffers: { ...buffers, globalScale: oneFloat(globalScale) },
  }
}

/** Its weights in f32, `[rows, cols]`. */
export function decodeQuantized(
  matrix: QuantizedMatrix,
  rows: number,
  cols: number,
  name: string,
): Float32Array {
  const { encoding, buffers } = inMemoryMatrix(matrix, rows, cols, name)
  return decodeMatrix(encoding, buffers, rows, cols)
}
