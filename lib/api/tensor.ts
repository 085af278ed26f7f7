/** Dense row-major tensors that the stages and layers pass between them. */

import { allocate } from '../block/allocate.js'
import type { DType } from '../block/dtype.js'
import {
  checkOptionKeys,
  describeValue,
  invalidArgShape,
  invalidArgType,
  invalidArgValue,
  MoeError,
} from '../block/errors.js'
import { isFloat32Array, isInt32Array, isUint16Array } from '../block/typed-arrays.js'
import type { QuantizedFormat, QuantizedMatrix } from '../block/weights.js'
import { copyOfQuantized, inMemoryExperts } from '../checkpoint/load/quantized-experts.js'
import { type InMemoryMatrix, isQuantizedMatrix } from '../checkpoint/load/quantized-matrix.js'
import { HOST_DEVICE, isHostDevice } from '../devices/device.js'
import { isOnHost, type Stored } from '../devices/device-array.js'
import { allocateBuffer, download, tensorDevice, uploaded } from '../devices/device-memory.js'
import { checkBuffer } from './leases.js'

/** Element type of a {@link Tensor}: a compute dtype, or i32 for ids, offsets and slots. */
export type TensorDType = DType | 'i32'

/** The typed array that holds a dtype: `Float32Array` f32, `Uint16Array` the bits of f16 or bf16, `Int32Array` i32. */
export type TensorData = Float32Array | Uint16Array | Int32Array

export interface TensorOptions {
  /** Needed for a `Uint16Array`; implied by the other arrays. */
  dtype?: TensorDType
  /** 'cpu', 'reference', 'cuda:N', or 'cuda' for the first one that works. @defaultValue 'cpu' */
  device?: string
}

/** Weights in codes: a tensor's own copy, and the matrix of each expert as a view of it. */
interface QuantizedExperts {
  readonly matrix: QuantizedMatrix
  readonly experts: readonly InMemoryMatrix[]
}

type Storage = Stored<TensorData> | QuantizedExperts

const isQuantized = (stored: Storage): stored is QuantizedExperts => 'experts' in stored

const storage = new WeakMap<object, Storage>()

/** A tensor of weights in codes, for `stages.expertMatmul`. */
export type QuantizedTensor = Tensor<QuantizedMatrix>

/**
 * A dense row-major tensor on a device. It owns its memory: {@link Tensor.from} copies in, {@link Tensor.toHost} copies out, and what
 * the caller does with its own arrays in between changes nothing. On 'cuda:N' the elements stay in the GPU's memory between stages and
 * layers; {@link Tensor.dispose} frees it (the garbage collector does too, later).
 */
export class Tensor<Contents extends TensorData | QuantizedMatrix = TensorData> {
  readonly dtype: Contents extends QuantizedMatrix ? QuantizedFormat : TensorDType
  readonly shape: readonly number[]
  readonly device: string

  /** @internal */
  constructor(data: Storage, shape: readonly number[], dtype: TensorDType | QuantizedFormat, device: string) {
    this.dtype = dtype as this['dtype']
    this.shape = Object.freeze([...shape])
    this.device = device
    storage.set(this, data)
  }

  /**
   * Copies a typed array into a new tensor.
   *
   * @param data length = product of `shape`
   * @param shape non-negative integers, rank 1 to 4
   * @throws TypeError ERR_MOE_INVALID_ARG_TYPE, RangeError ERR_MOE_INVALID_ARG_SHAPE or ERR_MOE_INVALID_ARG_VALUE
   * @throws {@link MoeError} ERR_MOE_DEVICE_UNAVAILABLE for a device that cannot hold tensors here, ERR_MOE_OUT_OF_MEMORY,
   * ERR_MOE_DEVICE_LOST
   */
  static from(data: TensorData, shape: readonly number[], options?: TensorOptions): Tensor
  /**
   * Copies weights in codes: `[N, K]` of E experts, one behind the other in `data`, `scales` and `zeros`; `globalScale` and `groupIndex` are
   * those of all experts. `dtype` of the tensor is the format. On 'cpu' and 'reference'; `stages.expertMatmul` takes it.
   *
   * @param shape `[E, N, K]`
   * @throws TypeError and RangeError with ERR_MOE_INVALID_ARG_*
   * @throws {@link MoeError} ERR_MOE_UNSUPPORTED_FORMAT on other devices, ERR_MOE_BUFFER_DETACHED, ERR_MOE_DEVICE_UNAVAILABLE,
   * ERR_MOE_OUT_OF_MEMORY
   */
  static from(
    data: QuantizedMatrix,
    shape: readonly number[],
    options?: Pick<TensorOptions, 'device'>,
  ): QuantizedTensor
  static from(
    data: TensorData | QuantizedMatrix,
    shape: readonly number[],
    options: TensorOptions = {},
  ): Tensor | QuantizedTensor {
    if (isQuantizedMatrix(data)) return quantizedTensor(data, shape, options)
    checkOptionKeys(options, ['dtype', 'device'])
    const dtype = inferDtype(data, options.dtype)
    checkBuffer('data', data)
    if (!Array.isArray(shape) || shape.length < 1 || shape.length > 4) {
      throw invalidArgShape('shape', 'an array of 1 to 4 sizes', describeValue(shape))
    }
    let length = 1
    for (const size of shape) {
      if (!Number.isInteger(size) || size < 0) throw invalidArgValue('shape', 'non-negative integers', size)
      length *= size
    }
    if (length !== data.length) {
      throw invalidArgShape('data', `${length} elements for shape [${shape.join(', ')}]`, `${data.length}`)
    }
    const device = tensorDevice(options.device ?? HOST_DEVICE)
    return new Tensor<TensorData>(
      isHostDevice(device) ? copyOf(data) : uploaded(device, data),
      shape,
      dtype,
      device,
    )
  }

  /** Number of elements. */
  get length(): number {
    return this.shape.reduce((product, size) => product * size, 1)
  }

  get isDisposed(): boolean {
    return !storage.has(this)
  }

  /** Copies the elements to a new typed array on the host; weights in codes to a new {@link QuantizedMatrix}, as they were given. */
  toHost(): Contents {
    const data = stored(this)
    if (isQuantized(data)) return copyOfQuantized(data.matrix, 'data') as Contents
    const elements = isOnHost(data)
      ? copyOf(data)
      : download(data, zeros(this.dtype as TensorDType, this.length))
    return elements as Contents
  }

  /** Frees the memory; idempotent. A later use throws ERR_MOE_DISPOSED; calls that have the tensor already still end well. */
  dispose(): void {
    const data = storage.get(this)
    storage.delete(this)
    if (data && !isQuantized(data) && !isOnHost(data)) data.dispose()
  }

  [Symbol.dispose](): void {
    this.dispose()
  }
}

function stored(tensor: object): Storage {
  const data = storage.get(tensor)
  if (!data) throw new MoeError('ERR_MOE_DISPOSED', 'The tensor has been disposed')
  return data
}

/** @internal The tensor's own storage, for stages and layers. */
export function tensorData(tensor: Tensor, name: string): Stored<TensorData> {
  const data = stored(tensor)
  if (isQuantized(data)) throw invalidArgType(name, 'a tensor of elements, not of codes', tensor.dtype)
  return data
}

/** @internal The experts' matrices of a tensor of codes; null: it holds elements. */
export function tensorExperts(tensor: Tensor | QuantizedTensor): readonly InMemoryMatrix[] | null {
  const data = stored(tensor)
  return isQuantized(data) ? data.experts : null
}

function quantizedTensor(
  matrix: QuantizedMatrix,
  shape: readonly number[],
  options: Pick<TensorOptions, 'device'>,
): QuantizedTensor {
  checkOptionKeys(options, ['device'])
  for (const part of ['data', 'scales', 'zeros', 'groupIndex'] as const) {
    const array = matrix[part]
    if (ArrayBuffer.isView(array)) checkBuffer(`data.${part}`, array)
  }
  if (!Array.isArray(shape) || shape.length !== 3)
    throw invalidArgShape('shape', '[numExperts, rows, columns] of weights in codes', describeValue(shape))
  for (const size of shape)
    if (!Number.isSafeInteger(size) || size < 1) throw invalidArgValue('shape', 'positive integers', size)
  const [numExperts, rows, cols] = shape as [number, number, number]
  const device = tensorDevice(options.device ?? HOST_DEVICE)
  if (!isHostDevice(device)) {
    throw new MoeError(
      'ERR_MOE_UNSUPPORTED_FORMAT',
      `The device '${device}' holds no tensors of codes: dequantize the matrices, or use 'cpu'`,
      { details: { format: matrix.format, device } },
    )
  }
  const own = copyOfQuantized(matrix, 'data')
  const experts = inMemoryExperts(own, numExperts, rows, cols, 'data')
  return new Tensor<QuantizedMatrix>({ matrix: own, experts }, shape, own.format, device)
}

/** @internal Storage for a new tensor. Zeros on the host, arbitrary elsewhere. */
export function allocateStored(device: string, dtype: TensorDType, length: number): Stored<TensorData> {
  return isHostDevice(device)
    ? zeros(dtype, length)
    : allocateBuffer(device, length * (dtype === 'f16' || dtype === 'bf16' ? 2 : 4))
}

/** `slice` would ask the array for its class, and a class of the caller's could keep a view of the copy. */
function copyOf(data: TensorData): TensorData {
  if (isFloat32Array(data)) return allocate(Float32Array, data)
  return isInt32Array(data) ? allocate(Int32Array, data) : allocate(Uint16Array, data)
}

function zeros(dtype: TensorDType, length: number): TensorData {
  if (dtype === 'f32') return allocate(Float32Array, length)
  return dtype === 'i32' ? allocate(Int32Array, length) : allocate(Uint16Array, length)
}

function inferDtype(data: unknown, asked: TensorDType | undefined): TensorDType {
  const implied = isFloat32Array(data) ? 'f32' : isInt32Array(data) ? 'i32' : undefined
  if (implied) {
    if (asked && asked !== implied)
      throw invalidArgValue('dtype', `'${implied}' for a ${implied} array`, asked)
    return implied
  }
  if (!isUint16Array(data)) {
    throw invalidArgType('data', 'a Float32Array, Uint16Array or Int32Array', data)
  }
  if (asked !== 'f16' && asked !== 'bf16')
    throw invalidArgValue('dtype', "'f16' or 'bf16' for a Uint16Array", asked)
  return asked
}
