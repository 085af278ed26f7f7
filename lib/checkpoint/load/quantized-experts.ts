/** Quantised matrices of several experts in one set of arrays, as tensors hold them. */

import { type ArrayKind, allocate } from '../../block/allocate.js'
import { invalidArgShape, invalidArgType } from '../../block/errors.js'
import { typedArrayKind } from '../../block/typed-arrays.js'
import type { QuantizedMatrix } from '../../block/weights.js'
import { type InMemoryMatrix, inMemoryMatrix } from './quantized-matrix.js'

type QuantizedArray = Float32Array | Uint16Array | Uint8Array | Int8Array | Int32Array

const KINDS: Readonly<Record<string, ArrayKind<QuantizedArray>>> = {
  Float32Array,
  Uint16Array,
  Uint8Array,
  Int8Array,
  Int32Array,
}

function copyOfArray<A extends QuantizedArray>(value: A, name: string): A {
  const kind = KINDS[typedArrayKind(value) ?? '']
  if (!kind) throw invalidArgType(name, `a ${Object.keys(KINDS).join(' or ')}`, value)
  return allocate(kind, value) as A
}

/** A copy of what a user gave, in arrays of this package's own. */
export function copyOfQuantized(matrix: QuantizedMatrix, name: string): QuantizedMatrix {
  const { format, data, scales, scaleType, zeros, groupSize, blockRows, globalScale, groupIndex } = matrix
  return {
    format,
    data: copyOfArray(data, `${name}.data`),
    ...(scales === undefined ? {} : { scales: copyOfArray(scales, `${name}.scales`) }),
    ...(scaleType === undefined ? {} : { scaleType }),
    ...(zeros === undefined ? {} : { zeros: copyOfArray(zeros, `${name}.zeros`) }),
    ...(groupSize === undefined ? {} : { groupSize }),
    ...(blockRows === undefined ? {} : { blockRows }),
    ...(globalScale === undefined ? {} : { globalScale }),
    ...(groupIndex === undefined ? {} : { groupIndex: copyOfArray(groupIndex, `${name}.groupIndex`) }),
  }
}

/**
 * Checks the matrices `[rows, cols]` of several experts. In `data`, `scales` and `zeros` they lie one behind the other; `globalScale` and
 * `groupIndex` are those of all.
 *
 * @param matrix of {@link copyOfQuantized}: what is returned views its arrays
 * @param name for messages
 * @throws TypeError and RangeError with ERR_MOE_INVALID_ARG_*
 */
export function inMemoryExperts(
  matrix: QuantizedMatrix,
  numExperts: number,
  rows: number,
  cols: number,
  name: string,
): InMemoryMatrix[] {
  const share = <A extends QuantizedArray>(array: A, part: string, expert: number): A => {
    const length = array.length / numExperts
    if (!Number.isInteger(length))
      throw invalidArgShape(
        `${name}.${part}`,
        `as many elements for each of ${numExperts} experts`,
        `${array.length}`,
      )
    return array.subarray(expert * length, (expert + 1) * length) as A
  }
  const { data, scales, zeros } = matrix
  return Array.from({ length: numExperts }, (_, expert) =>
    inMemoryMatrix(
      {
        ...matrix,
        data: share(data, 'data', expert),
        ...(scales ? { scales: share(scales, 'scales', expert) } : {}),
        ...(zeros ? { zeros: share(zeros, 'zeros', expert) } : {}),
      },
      rows,
      cols,
      name,
    ),
  )
}
