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

const storage = new WeakMap<Tensor, Stored<TensorData>>()

/**
 * A dense row-major tensor on a device. It owns its memory: {@link Tensor.from} copies in, {@link Tensor.toHost} copies out, and what
 * the caller does with its own arrays in between changes nothing. On 'cuda:N' the elements stay in the GPU's memory between stages and
 * layers; {@link Tensor.dispose} frees it (the garbage collector does too, later).
 */
export class Tensor {
  readonly dtype: TensorDType
  readonly shape: readonly number[]
  readonly device: string

  /** @internal */
  constructor(data: Stored<TensorData>, shape: readonly number[], dtype: TensorDType, device: string) {
    this.dtype = dtype
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
  static from(data: TensorData, shape: readonly number[], options: TensorOptions = {}): Tensor {
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
    return new Tensor(isHostDevice(device) ? copyOf(data) : uploaded(device, data), shape, dtype, device)
  }

  /** Number of elements. */
  get length(): number {
    return this.shape.reduce((product, size) => product * size, 1)
  }

  get isDisposed(): boolean {
    return !storage.has(this)
  }

  /** Copies the elements to a new typed array on the host. */
  toHost(): TensorData {
    const data = tensorData(this)
    return isOnHost(data) ? copyOf(data) : download(data, zeros(this.dtype, this.length))
  }

  /** Frees the memory; idempotent. A later use throws ERR_MOE_DISPOSED; calls that have the tensor already still end well. */
  dispose(): void {
    const data = storage.get(this)
    storage.delete(this)
    if (data && !isOnHost(data)) data.dispose()
  }

  [Symbol.dispose](): void {
    this.dispose()
  }
}

/** @internal The tensor's own storage, for stages and layers. */
export function tensorData(tensor: Tensor): Stored<TensorData> {
  const data = storage.get(tensor)
  if (!data) throw new MoeError('ERR_MOE_DISPOSED', 'The tensor has been disposed')
  return data
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
