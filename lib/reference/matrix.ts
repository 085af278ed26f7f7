/** Views of matrices that lie dense or strided in memory, and the one matrix-vector product that the reference uses. */

import { allocate } from '../block/allocate.js'
import type { DType } from '../block/dtype.js'
import { toFloat32 } from '../block/dtype.js'
import { invalidArgShape, invalidArgType } from '../block/errors.js'
import { isFloat32Array, isFloat64Array, isUint16Array } from '../block/typed-arrays.js'
import type { WeightMatrix } from '../block/weights.js'

/** Arrays of numbers that the stages take. */
export type Numbers = Float64Array | Float32Array | readonly number[]

/** Element (r, c) is `data[offset + r * rowStride + c * colStride]`. */
export interface Matrix {
  readonly rows: number
  readonly cols: number
  readonly data: ArrayLike<number>
  readonly offset: number
  readonly rowStride: number
  readonly colStride: number
  /** Makes of each row what a device makes of it that rounds rows before it multiplies them (docs/numerics.md). Absent: doubles. */
  readonly roundRow?: (row: Float64Array) => Float64Array
}

/** Widens the bits of 16-bit dtypes; anything else is numbers already. */
export type Widen = (data: Numbers | Uint16Array) => ArrayLike<number>

/** A {@link Widen} that keeps each result, so that many views of one fused array widen it once. */
export function makeWiden(dtype: DType): Widen {
  const done = new Map<Uint16Array, Float32Array>()
  return data => {
    if (!isUint16Array(data)) return data
    let wide = done.get(data)
    if (!wide) {
      wide = toFloat32(data, dtype)
      done.set(data, wide)
    }
    return wide
  }
}

function isArray(value: unknown): value is Numbers | Uint16Array {
  return Array.isArray(value) || isFloat32Array(value) || isFloat64Array(value) || isUint16Array(value)
}

/**
 * Looks at `source` as a `[rows, cols]` matrix; every element must lie inside its data.
 *
 * @throws TypeError `ERR_MOE_INVALID_ARG_TYPE`; RangeError `ERR_MOE_INVALID_ARG_SHAPE`.
 */
export function viewMatrix(
  source: WeightMatrix | Numbers,
  rows: number,
  cols: number,
  name: string,
  widen: Widen,
): Matrix {
  if (isArray(source)) {
    if (source.length !== rows * cols)
      throw invalidArgShape(name, `[${rows}, ${cols}] = ${rows * cols} elements`, `${source.length}`)
    return lazyMatrix(source, widen, { rows, cols, offset: 0, rowStride: cols, colStride: 1 })
  }
  const strided = source as Exclude<typeof source, Numbers | Uint16Array> | null | undefined
  if (
    typeof strided !== 'object' ||
    strided === null ||
    !isArray(strided.data) ||
    !Array.isArray(strided.strides)
  )
    throw invalidArgType(name, 'a Float32Array, a Uint16Array, or { data, offset, strides }', source)
  const { data, offset = 0, strides } = strided
  const [rowStride, colStride] = strides as readonly [number, number]
  const corners = [0, (rows - 1) * rowStride].flatMap(r => [r, r + (cols - 1) * colStride])
  const first = offset + Math.min(...corners)
  const last = offset + Math.max(...corners)
  if (![offset, rowStride, colStride].every(Number.isInteger) || first < 0 || last >= data.length)
    throw invalidArgShape(
      name,
      `offset and strides that keep [${rows}, ${cols}] inside ${data.length} elements`,
      `offset ${offset}, strides ${String(strides)}`,
    )
  return lazyMatrix(data, widen, { rows, cols, offset, rowStride, colStride })
}

/** Widens when somebody looks: of many experts a call may use few. */
function lazyMatrix(source: Numbers | Uint16Array, widen: Widen, layout: Omit<Matrix, 'data'>): Matrix {
  let wide: ArrayLike<number> | undefined
  return {
    ...layout,
    get data() {
      wide ??= widen(source)
      return wide
    },
  }
}

/** Multiply-adds between two yields: well under a millisecond. */
const MULTIPLY_ADDS_PER_STEP = 131072

/** `out = matrix · x (+ bias)`, yielding now and then so that a driver can let go of the thread. */
export function* multiply(
  matrix: Matrix,
  x: Numbers,
  bias: ArrayLike<number> | null,
  out: Float64Array,
): Generator<void, Float64Array, void> {
  const { rows, cols } = matrix
  const row = isFloat64Array(x) ? x : allocate(Float64Array, x)
  const wide = matrix.roundRow ? matrix.roundRow(row) : row
  let pending = 0
  for (let r = 0; r < rows; ) {
    const done = r + 4 <= rows ? fourRows(matrix, r, wide, out) : oneRow(matrix, r, wide, out)
    r += done
    pending += done * cols
    if (pending >= MULTIPLY_ADDS_PER_STEP) {
      pending = 0
      yield
    }
  }
  if (bias) for (let r = 0; r < rows; r++) out[r]! += bias[r]!
  return out
}

/** Row r of {@link multiply}; how many rows that is. */
function oneRow(matrix: Matrix, r: number, x: Float64Array, out: Float64Array): number {
  const { cols, data, offset, rowStride, colStride } = matrix
  let sum = 0
  let at = offset + r * rowStride
  for (let c = 0; c < cols; c++, at += colStride) sum += data[at]! * x[c]!
  out[r] = sum
  return 1
}

/** Rows r … r + 3. Each is summed in its own order, as {@link oneRow} does; four sums at once do not wait for each other's additions. */
function fourRows(matrix: Matrix, r: number, x: Float64Array, out: Float64Array): number {
  const { cols, data, offset, rowStride, colStride } = matrix
  let [sum0, sum1, sum2, sum3] = [0, 0, 0, 0]
  let at0 = offset + r * rowStride
  let at1 = at0 + rowStride
  let at2 = at1 + rowStride
  let at3 = at2 + rowStride
  for (let c = 0; c < cols; c++) {
    const value = x[c]!
    sum0 += data[at0]! * value
    sum1 += data[at1]! * value
    sum2 += data[at2]! * value
    sum3 += data[at3]! * value
    at0 += colStride
    at1 += colStride
    at2 += colStride
    at3 += colStride
  }
  out[r] = sum0
  out[r + 1] = sum1
  out[r + 2] = sum2
  out[r + 3] = sum3
  return 4
}

/** Runs a generator to its end on the spot. */
export function drain<T>(steps: Generator<void, T, void>): T {
  for (;;) {
    const step = steps.next()
    if (step.done) return step.value
  }
}
