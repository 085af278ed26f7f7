/** Copies of a caller's weights, rounded to the dtype or to the codes in which the layer is to hold them. */

import { allocate } from '../../block/allocate.js'
import { allocateArray, type DType, readElement, writeElement } from '../../block/dtype.js'
import { roundThroughCodes } from '../../block/quantize.js'
import type { WeightsOption } from '../../block/weight-format.js'
import type { ExpertTensors } from '../../reference/expert.js'
import type { Matrix } from '../../reference/matrix.js'
import type { LayerTensors } from '../../reference/tensors.js'

/** What becomes of the values of a dense matrix in f32. */
type Rounding = (values: Float32Array, cols: number) => void

function roundingOf(dtype: DType, held: WeightsOption): Rounding {
  if (held === 'stored' || (dtype === 'f32' && (held === 'auto' || held === 'expand'))) return asIs
  if (held === 'int8' || held === 'int4') {
    const bits = held === 'int8' ? 8 : 4
    return (values, cols) => {
      for (let row = 0; row < values.length; row += cols) roundThroughCodes(bits, values, row, cols)
    }
  }
  const cell = allocateArray(dtype, 1)
  return values => {
    for (let i = 0; i < values.length; i++) {
      writeElement(cell, 0, dtype, values[i]!)
      values[i] = readElement(cell, 0, dtype)
    }
  }
}

const asIs: Rounding = () => {}

/** Copies of all tensors; values of the matrices, but of router, shared gate and the arrays of `exact`, are rounded to what `held` says. */
export function roundedCopy(
  tensors: LayerTensors,
  dtype: DType,
  held: WeightsOption,
  exact: ReadonlySet<unknown>,
): LayerTensors {
  const round = roundingOf(dtype, held)
  const rounded = (matrix: Matrix) => denseCopy(matrix, exact.has(matrix.data) ? asIs : round)
  const { router, routing, experts, shared, sharedGate, latentDown, latentUp } = tensors
  const vector = <Value extends ArrayLike<number> | null>(values: Value) =>
    values && Float32Array.from(values)
  const mlp = ({ gate, up, down, gateBias, upBias, downBias }: ExpertTensors): ExpertTensors => ({
    gate: gate && rounded(gate),
    up: rounded(up),
    down: rounded(down),
    gateBias: vector(gateBias),
    upBias: vector(upBias),
    downBias: vector(downBias),
  })
  return {
    router: denseCopy(router, asIs),
    routerBias: vector(tensors.routerBias),
    routerInputScale: vector(tensors.routerInputScale),
    routing: {
      selectionBias: routing.selectionBias && allocate(Float32Array, routing.selectionBias),
      perExpertScale: routing.perExpertScale && allocate(Float32Array, routing.perExpertScale),
      hashTable: routing.hashTable && allocate(Int32Array, routing.hashTable),
    },
    experts: experts.map(mlp),
    shared: shared && mlp(shared),
    sharedGate: sharedGate && denseCopy(sharedGate, asIs),
    sharedLogitBias: vector(tensors.sharedLogitBias),
    latentDown: latentDown && rounded(latentDown),
    latentUp: latentUp && rounded(latentUp),
    latentNorm: vector(tensors.latentNorm),
    outputBias: vector(tensors.outputBias),
  }
}

/** A dense copy in f32, rounded. */
function denseCopy(matrix: Matrix, round: Rounding): Matrix {
  const { rows, cols, data, offset, rowStride, colStride } = matrix
  const out = allocate(Float32Array, rows * cols)
  for (let r = 0; r < rows; r++) {
    for (let c = 0; c < cols; c++) out[r * cols + c] = data[offset + r * rowStride + c * colStride]!
  }
  round(out, cols)
  return { rows, cols, data: out, offset: 0, rowStride: cols, colStride: 1 }
}
