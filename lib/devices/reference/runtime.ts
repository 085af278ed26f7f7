/** The device `reference`: the double-precision oracle behind the interface of every other device. Slow, exact, runs anywhere. */

import type { ActivationsOption } from '../../block/activations.js'
import type { ResolvedMoeConfig } from '../../block/config.js'
import { type DType, type FloatArray, readElement, writeElement } from '../../block/dtype.js'
import { MoeError } from '../../block/errors.js'
import {
  dtypeFormat,
  type LayerWeightFormat,
  uniformFormat,
  type WeightsOption,
} from '../../block/weight-format.js'
import type { MoeWeights } from '../../block/weights.js'
import { givenInt8Matrices, type Int8Matrix } from '../../checkpoint/load/int8-matrices.js'
import { decodedWeights } from '../../checkpoint/load/quantized-weights.js'
import { assembleFormats } from '../../checkpoint/plan/layer-formats.js'
import { type LayerPass, runLayer } from '../../reference/layer.js'
import { drain } from '../../reference/matrix.js'
import { type LayerTensors, layerTensors } from '../../reference/tensors.js'
import type { VectorTensors } from '../../spec/vectors.js'
import type { ForwardRequest, LayerRuntime, MemoryUse, RuntimeCall, StageKernels } from '../contract.js'
import { onHost } from '../device-array.js'
import { assembleWeights, type LayerMatrices } from './assemble.js'
import { withInt8Activations } from './int8-activations.js'
import { roundedCopy } from './rounded-copy.js'
import { SliceQueue } from './slice-queue.js'
import { referenceKernels } from './stages.js'
import { referenceWorkspaceBytes } from './workspace.js'

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
    const tensors = roundedCopy(layerTensors(config, decoded.weights), dtype, held, exact)
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

  forwardSync(request: ForwardRequest): number {
    if (this.#disposed) throw disposedError()
    drain(this.#steps(request))
    return 0
  }

  memory(): MemoryUse {
    return { hostBytes: this.#tensors ? this.#hostBytes : 0, deviceBytes: 0, workspaceBytes: 0 }
  }

  cache(): null {
    return null
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
