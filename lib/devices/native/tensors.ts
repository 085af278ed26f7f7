/**
 * A caller's weights in the form that the addon takes: small tensors widened to f32, matrices as they are. The checks here share no code
 * with those of the oracle, because a defect that both had would not show in a comparison.
 */

import { allocate } from '../../block/allocate.js'
import type { ResolvedMoeConfig } from '../../block/config.js'
import { type DType, type FloatArray, readElement } from '../../block/dtype.js'
import { invalidArgShape, invalidArgType, invalidArgValue } from '../../block/errors.js'
import { checkRoutingVectors } from '../../block/resolve.js'
import { isFloat32Array, isUint16Array } from '../../block/typed-arrays.js'
import type {
  ExpertMatrix,
  ExpertWeights,
  MoeWeights,
  StridedMatrix,
  WeightMatrix,
} from '../../block/weights.js'
import {
  type InMemoryMatrix,
  inMemoryMatrix,
  isQuantizedMatrix,
} from '../../checkpoint/load/quantized-matrix.js'
import type { MatrixItem } from '../../checkpoint/plan/layer-plan.js'
import type { VectorTensors } from '../../spec/vectors.js'

/** Element (r, c) is `data[offset + r * rowStride + c * colStride]`. */
interface RawMatrix {
  data: FloatArray
  offset: number
  rowStride: number
  colStride: number
}

/** One matrix and its place in the layer. */
export interface NativeMatrix {
  role: MatrixItem['role']
  expert: number
  name: MatrixItem['matrix']
  rows: number
  cols: number
  /** Floats, or codes in a form that checkpoints have too. */
  source: { dtype: DType; matrix: RawMatrix } | InMemoryMatrix
}

/**
 * Checks weights against the config without copying a matrix.
 *
 * @throws TypeError and RangeError with ERR_MOE_INVALID_ARG_*, naming the tensor
 */
export function nativeTensors(
  config: ResolvedMoeConfig,
  weights: MoeWeights,
): { vectors: VectorTensors; matrices: NativeMatrix[] } {
  const { hiddenSize: H, intermediateSize: I, sharedIntermediateSize, latentSize, numExperts } = config
  const numOutputs = numExperts + config.numIdentityExperts
  const expertSize = latentSize || H
  requireObject(weights, 'weights', 'an object')
  const { router, experts, shared, sharedGate, sharedLogitBias, latentDown, latentUp, latentNorm } = weights
  requireObject(router, 'weights.router', 'an object with the router weight')
  if (!Array.isArray(experts))
    throw invalidArgType('weights.experts', 'an array with one entry per expert', experts)
  if (experts.length !== numExperts)
    throw invalidArgShape('weights.experts', `${numExperts} experts`, `${experts.length}`)
  const { selectionBias, perExpertScale, hashTable, inputScale } = router
  checkRoutingVectors(config, { selectionBias, perExpertScale, hashTable })
  const neededWhen = (condition: boolean, why: string, value: unknown, name: string) =>
    isPresent(value, name, condition, condition, why)
  neededWhen(
    config.routerNormEpsilon > 0,
    'config.routerNormEpsilon is set',
    inputScale,
    'weights.router.inputScale',
  )
  neededWhen(config.numSharedExperts > 0, 'config.numSharedExperts > 0', shared, 'weights.shared')
  neededWhen(
    config.sharedGate !== 'plain',
    "config.sharedGate is not 'plain'",
    sharedGate,
    'weights.sharedGate',
  )
  isPresent(
    sharedLogitBias,
    'weights.sharedLogitBias',
    false,
    config.sharedGate !== 'plain',
    "config.sharedGate is not 'plain'",
  )
  neededWhen(
    config.latentNormEpsilon > 0,
    'config.latentNormEpsilon is set',
    latentNorm,
    'weights.latentNorm',
  )
  neededWhen(latentSize > 0, 'config.latentSize is set', latentDown, 'weights.latentDown')
  neededWhen(latentSize > 0, 'config.latentSize is set', latentUp, 'weights.latentUp')

  const bits = weights.dtype ?? 'bf16'
  const matrices: NativeMatrix[] = []
  const add = (
    [role, expert, name]: [NativeMatrix['role'], number, NativeMatrix['name']],
    source: ExpertMatrix,
    [rows, cols]: [number, number],
    path: string,
  ) => {
    const place = { role, expert, name, rows, cols }
    if (isQuantizedMatrix(source)) {
      matrices.push({ ...place, source: inMemoryMatrix(source, rows, cols, path) })
      return
    }
    const matrix = viewOf(source, rows, cols, path)
    matrices.push({ ...place, source: { dtype: dtypeOf(matrix.data, bits), matrix } })
  }
  const addMlp = (
    role: NativeMatrix['role'],
    expert: number,
    mlp: ExpertWeights,
    width: number,
    size: number,
  ) => {
    const path = role === 'expert' ? `weights.experts[${expert}]` : 'weights.shared'
    requireObject(mlp, path, 'an object with gate, up and down')
    const { gated } = config
    if (isPresent(mlp.gate, `${path}.gate`, gated, gated, 'config.gated is true'))
      add([role, expert, 'gate'], mlp.gate, [width, size], `${path}.gate`)
    isPresent(mlp.gateBias, `${path}.gateBias`, false, gated, 'config.gated is true')
    add([role, expert, 'up'], mlp.up, [width, size], `${path}.up`)
    add([role, expert, 'down'], mlp.down, [size, width], `${path}.down`)
  }
  experts.forEach((expert, e) => {
    addMlp('expert', e, expert, I, expertSize)
  })
  if (shared) addMlp('shared', 0, shared, sharedIntermediateSize, H)
  if (latentDown) add(['latent', 0, 'down'], latentDown, [latentSize, H], 'weights.latentDown')
  if (latentUp) add(['latent', 0, 'up'], latentUp, [H, latentSize], 'weights.latentUp')

  const routerWeight = widened(router.weight, numOutputs, H, bits, 'weights.router.weight')
  const vectors: VectorTensors = {
    routerWeight,
    routerBias: vectorOf(router.bias, numOutputs, 'weights.router.bias'),
    selectionBias: selectionBias ?? undefined,
    perExpertScale: perExpertScale ?? undefined,
    routerInputScale: vectorOf(inputScale, H, 'weights.router.inputScale'),
    hashTable: hashTable ?? undefined,
    sharedGate: sharedGate ? widened(sharedGate, 1, H, bits, 'weights.sharedGate') : undefined,
    sharedLogitBias: vectorOf(sharedLogitBias, 1, 'weights.sharedLogitBias'),
    latentNorm: vectorOf(latentNorm, latentSize, 'weights.latentNorm'),
    outputBias: vectorOf(weights.outputBias, H, 'weights.outputBias'),
    gateBias: gathered(experts, 'gateBias', I),
    upBias: gathered(experts, 'upBias', I),
    downBias: gathered(experts, 'downBias', expertSize),
    sharedGateBias: vectorOf(shared?.gateBias, sharedIntermediateSize, 'weights.shared.gateBias'),
    sharedUpBias: vectorOf(shared?.upBias, sharedIntermediateSize, 'weights.shared.upBias'),
    sharedDownBias: vectorOf(shared?.downBias, H, 'weights.shared.downBias'),
  }
  return { vectors, matrices }
}

function requireObject(value: unknown, name: string, expected: string): void {
  if (typeof value !== 'object' || value === null) throw invalidArgType(name, expected, value)
}

/** Whether a tensor is there; throws where the config needs one that is not, or has no use for one that is. */
function isPresent<Value>(
  value: Value | null | undefined,
  name: string,
  isNeeded: boolean,
  isAllowed: boolean,
  why: string,
): value is Value {
  const there = value !== undefined && value !== null
  if (isNeeded && !there) throw invalidArgType(name, `an array (${why})`, value)
  if (there && !isAllowed) throw invalidArgValue(name, `nothing unless ${why}`, value)
  return there
}

function isFloatArray(value: unknown): value is FloatArray {
  return isFloat32Array(value) || isUint16Array(value)
}

/** A `[rows, cols]` matrix whose every element lies inside its array. */
function viewOf(source: WeightMatrix, rows: number, cols: number, name: string): RawMatrix {
  if (isFloatArray(source)) {
    if (source.length !== rows * cols)
      throw invalidArgShape(name, `[${rows}, ${cols}] = ${rows * cols} elements`, `${source.length}`)
    return { data: source, offset: 0, rowStride: cols, colStride: 1 }
  }
  const { data, offset = 0, strides } = (source ?? {}) as Partial<StridedMatrix>
  if (!isFloatArray(data) || !Array.isArray(strides))
    throw invalidArgType(name, 'a Float32Array, a Uint16Array, or { data, offset, strides }', source)
  const [rowStride, colStride] = strides as unknown as [number, number]
  // Strides may be negative, so either end of a dimension can be the lower one.
  const rowSpan = (rows - 1) * rowStride
  const colSpan = (cols - 1) * colStride
  const lowest = offset + Math.min(0, rowSpan) + Math.min(0, colSpan)
  const highest = offset + Math.max(0, rowSpan) + Math.max(0, colSpan)
  const areIntegers = [offset, rowStride, colStride].every(Number.isSafeInteger)
  if (!areIntegers || lowest < 0 || highest >= data.length) {
    throw invalidArgShape(
      name,
      `offset and strides that keep [${rows}, ${cols}] inside ${data.length} elements`,
      `offset ${offset}, strides ${String(strides)}`,
    )
  }
  return { data, offset, rowStride, colStride }
}

/** What an array holds, given what the 16-bit ones among the weights hold. */
function dtypeOf(data: FloatArray, bits: DType): DType {
  return isFloat32Array(data) ? 'f32' : bits
}

function vectorOf(
  value: Float32Array | null | undefined,
  length: number,
  name: string,
): Float32Array | undefined {
  if (value === undefined || value === null) return undefined
  if (!isFloat32Array(value)) throw invalidArgType(name, 'a Float32Array', value)
  if (value.length !== length) throw invalidArgShape(name, `${length} elements`, `${value.length}`)
  return value
}

/** A dense copy in f32. */
function widened(source: WeightMatrix, rows: number, cols: number, bits: DType, name: string): Float32Array {
  const { data, offset, rowStride, colStride } = viewOf(source, rows, cols, name)
  const dtype = dtypeOf(data, bits)
  const out = allocate(Float32Array, rows * cols)
  for (let r = 0; r < rows; r++) {
    for (let c = 0; c < cols; c++)
      out[r * cols + c] = readElement(data, offset + r * rowStride + c * colStride, dtype)
  }
  return out
}

/** One bias of all experts, `[numExperts, length]`; an expert without one has zeros. */
function gathered(
  experts: readonly ExpertWeights[],
  bias: 'gateBias' | 'upBias' | 'downBias',
  length: number,
): Float32Array | undefined {
  const rows = experts.map((expert, e) => vectorOf(expert[bias], length, `weights.experts[${e}].${bias}`))
  if (!rows.some(row => row)) return undefined
  const all = allocate(Float32Array, experts.length * length)
  rows.forEach((row, e) => {
    if (row) all.set(row, e * length)
  })
  return all
}
