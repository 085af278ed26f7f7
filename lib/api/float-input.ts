/** Rows that a caller gives: of which type they are, whose memory they lie in, and how an output of the same type is made. */

import type { DType, FloatArray } from '../block/dtype.js'
import { invalidArgShape, invalidArgType, invalidArgValue } from '../block/errors.js'
import { isFloat32Array, isInSharedMemory, isUint16Array } from '../block/typed-arrays.js'
import { HOST_DEVICE, isHostDevice } from '../devices/device.js'
import { onHost, type Stored } from '../devices/device-array.js'
import { checkBuffer } from './leases.js'
import { Tensor, tensorData } from './tensor.js'

/** Hidden states: f32, the bits of the layer's 16-bit dtype, a `Float16Array` on an f16 layer, or a tensor. */
export type HiddenStates = Float32Array | Uint16Array | Tensor

type Float16ArrayConstructor = new (buffer: ArrayBufferLike, byteOffset: number, length: number) => object
const Float16 = (globalThis as { Float16Array?: Float16ArrayConstructor }).Float16Array

/** Checked rows. */
export interface FloatInput {
  array: Stored<FloatArray>
  /** Nobody can take its memory away: a tensor's, or shared. */
  isKept: boolean
  /** Elements. */
  length: number
  dtype: DType
  /** Of a tensor; arrays are the host's. */
  device: string
  /** Makes an output of the same type over an array like `array`. */
  wrap: (array: Stored<FloatArray>) => HiddenStates
}

/**
 * @param name of the argument, for messages
 * @throws TypeError and RangeError with ERR_MOE_INVALID_ARG_*; MoeError ERR_MOE_BUFFER_DETACHED
 */
export function floatInput(
  name: string,
  value: unknown,
  layerDtype: DType,
  device: string,
  hiddenSize: number,
): FloatInput {
  const input = toFloatInput(name, value, layerDtype, device, hiddenSize)
  if (input.length % hiddenSize !== 0) {
    throw invalidArgShape(name, `[numTokens, ${hiddenSize}]`, `${input.length} elements`)
  }
  return input
}

function toFloatInput(
  name: string,
  value: unknown,
  layerDtype: DType,
  device: string,
  hiddenSize: number,
): FloatInput {
  if (value instanceof Tensor) {
    const array = tensorData(value, name)
    if (value.dtype === 'i32' || (value.dtype !== 'f32' && value.dtype !== layerDtype)) {
      throw invalidArgType(name, `a tensor of f32 or of the layer's ${layerDtype}`, value.dtype)
    }
    if (value.shape.length !== 2 || value.shape[1] !== hiddenSize) {
      throw invalidArgShape(name, `shape [numTokens, ${hiddenSize}]`, `[${value.shape.join(', ')}]`)
    }
    if (value.device !== device && !(isHostDevice(value.device) && isHostDevice(device))) {
      throw invalidArgValue(name, `a tensor on '${device}'`, value.device)
    }
    const { dtype, shape, length } = value
    return {
      array: array as Stored<FloatArray>,
      isKept: true,
      length,
      dtype,
      device: value.device,
      wrap: out => new Tensor(out, shape, dtype, value.device),
    }
  }
  const host = (array: FloatArray, dtype: DType, wrap: (out: FloatArray) => HiddenStates): FloatInput => ({
    array,
    isKept: isInSharedMemory(array),
    length: array.length,
    dtype,
    device: HOST_DEVICE,
    wrap: out => wrap(onHost(out)),
  })
  if (isFloat32Array(value)) {
    checkBuffer(name, value)
    return host(value, 'f32', out => out)
  }
  if (isUint16Array(value)) {
    if (layerDtype === 'f32') throw invalidArgType(name, 'a Float32Array (the layer computes in f32)', value)
    checkBuffer(name, value)
    return host(value, layerDtype, out => out)
  }
  if (Float16 && value instanceof Float16) {
    if (layerDtype !== 'f16')
      throw invalidArgType(name, `no Float16Array (the layer computes in ${layerDtype})`, value)
    const view = value as unknown as Uint16Array
    checkBuffer(name, view)
    const bits = new Uint16Array(view.buffer, view.byteOffset, view.length)
    return host(
      bits,
      'f16',
      out => new Float16(out.buffer, out.byteOffset, out.length) as unknown as Uint16Array,
    )
  }
  throw invalidArgType(name, 'a Float32Array, a Uint16Array (bits of the 16-bit dtype) or a Tensor', value)
}
