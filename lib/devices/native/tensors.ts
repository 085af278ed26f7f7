/** A caller's weights in the form that the addon takes: small tensors widened to f32, matrices as they are. */

import type { ResolvedMoeConfig } from '../../block/config.js'
import { type DType, type FloatArray, readElement } from '../../block/dtype.js'
import { invalidArgType } from '../../block/errors.js'
import type { MoeWeights } from '../../block/weights.js'
import type { MatrixItem } from '../../checkpoint/plan/layer-plan.js'
import type { ExpertTensors } from '../../reference/expert.js'
import type { Matrix } from '../../reference/matrix.js'
import { layerTensors } from '../../reference/tensors.js'
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
  dtype: DType
  matrix: RawMatrix
}

/** Checks weights against the config without copying a matrix. */
export function nativeTensors(
  config: ResolvedMoeConfig,
  weights: MoeWeights,
): { vectors: VectorTensors; matrices: NativeMatrix[] } {
  // The bits of 16-bit matrices stay: the addon widens them.
  const tensors = layerTensors(config, weights, data => data)
  const bits = weights.dtype ?? 'bf16'
  const { router, routing, experts, shared, sharedGate, latentDown, latentUp } = tensors
  const matrices: NativeMatrix[] = []
  const add = (
    role: NativeMatrix['role'],
    expert: number,
    name: NativeMatrix['name'],
    matrix: Matrix | null,
  ) => {
    if (!matrix) return
    const { offset, rowStride, colStride } = matrix
    const data = floatArray(matrix, `weights of ${role} ${expert}.${name}`)
    const dtype = data instanceof Float32Array ? 'f32' : bits
    matrices.push({ role, expert, name, dtype, matrix: { data, offset, rowStride, colStride } })
  }
  const addMlp = (role: NativeMatrix['role'], expert: number, { gate, up, down }: ExpertTensors) => {
    add(role, expert, 'gate', gate)
    add(role, expert, 'up', up)
    add(role, expert, 'down', down)
  }
  for (const [e, expert] of experts.entries()) addMlp('expert', e, expert)
  if (shared) addMlp('shared', 0, shared)
  add('latent', 0, 'down', latentDown)
  add('latent', 0, 'up', latentUp)

  const size = config.latentSize || config.hiddenSize
  const vectors: VectorTensors = {
    routerWeight: widened(router, bits, 'weights.router.weight'),
    routerBias: tensors.routerBias ?? undefined,
    selectionBias: routing.selectionBias ?? undefined,
    perExpertScale: routing.perExpertScale ?? undefined,
    routerInputScale: tensors.routerInputScale ?? undefined,
    hashTable: routing.hashTable ?? undefined,
    sharedGate: sharedGate ? widened(sharedGate, bits, 'weights.sharedGate') : undefined,
    outputBias: tensors.outputBias ?? undefined,
    gateBias: gathered(experts, 'gateBias', config.intermediateSize),
    upBias: gathered(experts, 'upBias', config.intermediateSize),
    downBias: gathered(experts, 'downBias', size),
    sharedGateBias: float32(shared?.gateBias),
    sharedUpBias: float32(shared?.upBias),
    sharedDownBias: float32(shared?.downBias),
  }
  return { vectors, matrices }
}

function floatArray(matrix: Matrix, name: string): FloatArray {
  const { data } = matrix
  if (data instanceof Float32Array || data instanceof Uint16Array) return data
  throw invalidArgType(name, 'a Float32Array or a Uint16Array', data)
}

function float32(values: ArrayLike<number> | null | undefined): Float32Array | undefined {
  if (!values) return undefined
  return values instanceof Float32Array ? values : Float32Array.from(values)
}

/** A dense copy in f32. */
function widened(matrix: Matrix, bits: DType, name: string): Float32Array {
  const { rows, cols, offset, rowStride, colStride } = matrix
  const data = floatArray(matrix, name)
  const dtype = data instanceof Float32Array ? 'f32' : bits
  const out = new Float32Array(rows * cols)
  for (let r = 0; r < rows; r++) {
    for (let c = 0; c < cols; c++)
      out[r * cols + c] = readElement(data, offset + r * rowStride + c * colStride, dtype)
  }
  return out
}

/** One bias of all experts in a row; absent ones are zero. */
function gathered(
  experts: readonly ExpertTensors[],
  bias: 'gateBias' | 'upBias' | 'downBias',
  length: number,
): Float32Array | undefined {
  if (!experts.some(expert => expert[bias])) return undefined
  const all = new Float32Array(experts.length * length)
  experts.forEach((expert, e) => {
    const values = expert[bias]
    if (values) all.set(values, e * length)
  })
  return all
}
