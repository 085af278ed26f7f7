/** The device `reference`: the double-precision oracle behind the interface of every other device. Slow, exact, runs anywhere. */

import type { ActivationsOption } from '../../block/activations.js'
import { allocate } from '../../block/allocate.js'
import type { ResolvedMoeConfig } from '../../block/config.js'
import { allocateArray, type DType, type FloatArray, readElement, writeElement } from '../../block/dtype.js'
import { MoeError } from '../../block/errors.js'
import { roundThroughCodes } from '../../block/quantize.js'
import {
  dtypeFormat,
  type LayerWeightFormat,
  uniformFormat,
  type WeightsOption,
} from '../../block/weight-format.js'
import type { FloatWeights, MoeWeights, WeightMatrix } from '../../block/weights.js'
import { givenInt8Matrices, type Int8Matrix } from '../../checkpoint/load/int8-matrices.js'
import { decodedWeights } from '../../checkpoint/load/quantized-weights.js'
import { assembleFormats } from '../../checkpoint/plan/layer-formats.js'
import type { ExpertTensors } from '../../reference/expert.js'
import { type LayerPass, runLayer } from '../../reference/layer.js'
import { drain, type Matrix } from '../../reference/matrix.js'
import { type LayerTensors, layerTensors } from '../../reference/tensors.js'
import type { VectorTensors } from '../../spec/vectors.js'
import type { ForwardRequest, LayerRuntime, MemoryUse, RuntimeCall, StageKernels } from '../contract.js'
import { onHost } from '../device-array.js'
import { withInt8Activations } from './int8-activations.js'
import { SliceQueue } from './slice-queue.js'
import { referenceKernels } from './stages.js'
import { referenceWorkspaceBytes } from './workspace.js'

export { referenceStages } from './stages.js'

/** The matrices of one expert, or of the fused shared MLP: `[I, D]`, `[I, D]`, `[D, I]`. */
export interface ExpertMatrices {
  gate?: WeightMatrix
  up: WeightMatrix
  down: WeightMatrix
}

/** All matrices of a layer but the router, which is among the vectors. Values are already those of the layer's dtype. */
export interface LayerMatrices {
  /** One entry per real expert. */
  experts: readonly ExpertMatrices[]
  shared?: ExpertMatrices
  /** `[latentSize, H]` */
  latentDown?: WeightMatrix
  /** `[H, latentSize]` */
  latentUp?: WeightMatrix
}

const part = (all: Float32Array | undefined, index: number, length: number) =>
  all?.subarray(index * length, (index + 1) * length)

/** Puts vectors and matrices together as the weights that the reference checks and reads. */
export function assembleWeights(
  config: ResolvedMoeConfig,
  dtype: DType,
  vectors: VectorTensors,
  matrices: LayerMatrices,
): FloatWeights {
  const { intermediateSize, hiddenSize } = config
  const size = config.latentSize || hiddenSize
  return {
    dtype,
    router: {
      weight: vectors.routerWeight,
      bias: vectors.routerBias,
      selectionBias: vectors.selectionBias,
      perExpertScale: vectors.perExpertScale,
      inputScale: vectors.routerInputScale,
      hashTable: vectors.hashTable,
    },
    experts: matrices.experts.map((expert, e) => ({
      ...expert,
      gateBias: part(vectors.gateBias, e, intermediateSize),
      upBias: part(vectors.upBias, e, intermediateSize),
      downBias: part(vectors.downBias, e, size),
    })),
    shared: matrices.shared && {
      ...matrices.shared,
      gateBias: vectors.sharedGateBias,
      upBias: vectors.sharedUpBias,
      downBias: vectors.sharedDownBias,
    },
    sharedGate: vectors.sharedGate,
    sharedLogitBias: vectors.sharedLogitBias,
    latentDown: matrices.latentDown,
    latentUp: matrices.latentUp,
    latentNorm: vectors.latentNorm,
    outputBias: vectors.outputBias,
  }
}

/** Every buffer that a layer holds, counted once however many views it has. */
function bytesHeld(tensors: LayerTensors): number {
  const buffers = new Set<ArrayBufferLike>()
  const visit = (value: unknown): void => {
    if (ArrayBuffer.isView(value)) buffers.add(value.buffer)
    else if (typeof value === 'object' && value !== null) Object.values(value).forEach(visit)
  }
  visit(tensors)
  return [...buffers].reduce((sum, buffer) => sum + buffer.byteLength, 0)
}

/** A layer on the device `reference`. Weights are read in place and never written; calls run one after the other, in slices. */
export class ReferenceLayerRuntime implements LayerRuntime {
  readonly device = 'reference'
  #tensors: LayerTensors | null
  #queue = new SliceQueue(() => this.#release())
  #disposed = false
  #hostBytes: number

  readonly activations: ActivationsOption

  /** @param int8 the matrices that rows of codes are multiplied by; absent: none is to be */
  private constructor(
    readonly config: ResolvedMoeConfig,
    readonly dtype: DType,
    tensors: LayerTensors,
    readonly weightFormat: LayerWeightFormat = uniformFormat(config, dtypeFormat(dtype)),
    int8?: readonly Int8Matrix[],
  ) {
    this.activations = int8 ? 'int8' : 'exact'
    this.#tensors = int8 ? withInt8Activations(tensors, int8, weightFormat) : tensors
    this.#hostBytes = bytesHeld(tensors)
  }

  /**
   * Makes a runtime from tensors of its own, as a load leaves them.
   *
   * @param dtype what a `Uint16Array` among the matrices holds, and the dtype to which their values are already rounded
   * @param int8 the matrices that rows of codes are multiplied by; absent: all rows are multiplied exactly
   * @throws TypeError and RangeError with ERR_MOE_INVALID_ARG_* when the tensors do not fit the config; {@link MoeError}
   * ERR_MOE_UNSUPPORTED_FORMAT where `int8` is empty
   */
  static fromTensors(
    config: ResolvedMoeConfig,
    dtype: DType,
    vectors: VectorTensors,
    matrices: LayerMatrices,
    format?: LayerWeightFormat,
    int8?: readonly Int8Matrix[],
  ): ReferenceLayerRuntime {
    const tensors = layerTensors(config, assembleWeights(config, dtype, vectors, matrices))
    return new ReferenceLayerRuntime(config, dtype, tensors, format, int8)
  }

  /**
   * Makes a runtime from a caller's weights: every array is copied, and matrices (not the router) are rounded to `dtype`, or to codes of
   * 8 or 4 bits; 'stored' leaves them as they are.
   */
  static fromWeights(
    config: ResolvedMoeConfig,
    dtype: DType,
    weights: MoeWeights,
    options: { weights?: WeightsOption; activations?: ActivationsOption } = {},
  ): ReferenceLayerRuntime {
    const { weights: held = 'auto', activations = 'exact' } = options
    const decoded = decodedWeights(config, weights)
    const exact = held === 'auto' ? decoded.arrays : new Set<unknown>()
    const tensors = copyOf(layerTensors(config, decoded.weights), roundingOf(dtype, held), exact)
    const own = { ...dtypeFormat(held === 'auto' || held === 'expand' ? dtype : 'f32'), stored: dtype }
    const ofCodes = dtypeFormat(held === 'expand' ? dtype : 'f32')
    const format = assembleFormats(config, decoded.codes, own, index => ({
      ...ofCodes,
      stored: decoded.codes[index]!.stored,
    }))
    const int8 = activations === 'int8' ? givenInt8Matrices(config, decoded.codes, held) : undefined
    return new ReferenceLayerRuntime(config, dtype, tensors, format, int8)
  }

  forward(request: ForwardRequest): RuntimeCall {
    if (this.#disposed) return { settled: Promise.reject(disposedError()), cancel: () => 'done' }
    for (const { from, to, first } of request.copies ?? []) to.set(from.subarray(first), first)
    return this.#queue.submit(this.#steps(request), request.numTokens)
  }

  forwardSync(request: ForwardRequest): void {
    if (this.#disposed) throw disposedError()
    drain(this.#steps(request))
  }

  memory(): MemoryUse {
    return { hostBytes: this.#tensors ? this.#hostBytes : 0, deviceBytes: 0, workspaceBytes: 0 }
  }

  phases(): null {
    return null
  }

  kernels(_numTokens: number): StageKernels {
    return referenceKernels(this.activations)
  }

  loss(): null {
    return null
  }

  workspaceBytes(numTokens: number): number {
    return referenceWorkspaceBytes(this.config, numTokens)
  }

  dispose(): void {
    this.#disposed = true
    this.#release()
  }

  #release(): void {
    if (this.#disposed && this.#queue.isIdle) this.#tensors = null
  }

  #steps(request: ForwardRequest): Generator<void, void, void> {
    return runLayer(this.config, this.#tensors!, passOf(request, this.config.hiddenSize))
  }
}

function disposedError(): MoeError {
  return new MoeError('ERR_MOE_DISPOSED', 'The layer has been disposed')
}

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

/** Copies of all tensors; values of the matrices, but of router, shared gate and the arrays of `exact`, are rounded. */
function copyOf(tensors: LayerTensors, round: Rounding, exact: ReadonlySet<unknown>): LayerTensors {
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

/** Rows of a request in and out; the output is rounded once. */
function passOf(request: ForwardRequest, hiddenSize: number): LayerPass {
  const { routerInput, dtype } = request
  const output = onHost(request.output)
  const readerOf = (array: FloatArray) => (token: number, row: Float64Array) => {
    for (let h = 0; h < hiddenSize; h++) row[h] = readElement(array, token * hiddenSize + h, dtype)
  }
  return {
    numTokens: request.numTokens,
    replay: request.replay,
    tokenIds: request.tokenIds,
    topK: request.topK,
    topP: request.topP,
    sequenceLengths: request.sequenceLengths,
    topkIds: request.topkIds,
    topkWeights: request.topkWeights,
    nonFinite: request.nonFinite,
    readHidden: readerOf(onHost(request.hidden)),
    readRouterInput: routerInput && readerOf(onHost(routerInput)),
    writeOutput(token, row) {
      let finite = true
      for (let h = 0; h < hiddenSize; h++) {
        const at = token * hiddenSize + h
        writeElement(output, at, dtype, row[h]!)
        finite &&= Number.isFinite(readElement(output, at, dtype))
      }
      return finite
    },
  }
}
