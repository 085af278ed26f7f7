/** Checks the tensors that stages take: type, rank and shape, and the slots of a dispatch. */

import type { DType, FloatArray } from '../block/dtype.js'
import { invalidArgShape, invalidArgType, invalidArgValue } from '../block/errors.js'
import { isOnHost, type Stored } from '../devices/device-array.js'
import { Tensor, tensorData, tensorExperts } from './tensor.js'

/** Where the slots of each expert are. E = numExperts, slot = token * topK + k. */
export interface Dispatch {
  /** `[E+1]` i32: the slots of expert e are `sortedSlots[expertOffsets[e] … expertOffsets[e+1])`. */
  expertOffsets: Tensor
  /** `[T*K]` i32: slots by expert, rising within one; behind `expertOffsets[E]` the tail is −1 (slots without an expert). */
  sortedSlots: Tensor
}

const isFloatDtype = (dtype: string): dtype is DType => dtype === 'f32' || dtype === 'f16' || dtype === 'bf16'

export function floatTensor(
  name: string,
  tensor: unknown,
  rank: number,
): { data: Stored<FloatArray>; dtype: DType; shape: readonly number[]; device: string } {
  const checked = checkTensor(name, tensor, rank)
  if (!isFloatDtype(checked.dtype)) throw invalidArgType(name, 'a tensor of f32, f16 or bf16', checked.dtype)
  return {
    data: tensorData(checked, name) as Stored<FloatArray>,
    dtype: checked.dtype,
    shape: checked.shape,
    device: checked.device,
  }
}

export function typedTensor<D extends 'f32' | 'i32'>(name: string, tensor: unknown, dtype: D, rank: number) {
  const checked = checkTensor(name, tensor, rank)
  if (checked.dtype !== dtype) throw invalidArgType(name, `a tensor of ${dtype}`, checked.dtype)
  return {
    data: tensorData(checked, name) as Stored<D extends 'f32' ? Float32Array : Int32Array>,
    shape: checked.shape,
    device: checked.device,
  }
}

/** Matrices of experts: floats, or codes that the stage decodes to f32. */
export function weightsTensor(name: string, tensor: unknown, rank: number) {
  const checked = checkTensor(name, tensor, rank)
  const experts = tensorExperts(checked)
  if (!experts) return floatTensor(name, tensor, rank)
  return { data: experts, dtype: 'f32' as const, shape: checked.shape, device: checked.device }
}

function checkTensor(name: string, tensor: unknown, rank: number): Tensor {
  if (!(tensor instanceof Tensor)) throw invalidArgType(name, 'a Tensor', tensor)
  if (tensor.shape.length !== rank)
    throw invalidArgShape(name, `rank ${rank}`, `[${tensor.shape.join(', ')}]`)
  return tensor
}

export function checkSize(name: string, expected: string, matches: boolean, shape: readonly number[]): void {
  if (!matches) throw invalidArgShape(name, expected, `[${shape.join(', ')}]`)
}

/** Shapes on every device; contents here on the host, and by the device's own stages elsewhere. */
export function checkDispatch(dispatched: Dispatch, expected?: number) {
  if (typeof dispatched !== 'object' || dispatched === null) {
    throw invalidArgType('dispatch', 'what dispatch() returned', dispatched)
  }
  const offsets = typedTensor('dispatch.expertOffsets', dispatched.expertOffsets, 'i32', 1)
  const slots = typedTensor('dispatch.sortedSlots', dispatched.sortedSlots, 'i32', 1)
  const numExperts = offsets.shape[0]! - 1
  checkSize(
    'dispatch.expertOffsets',
    expected === undefined ? '[numExperts + 1]' : `[${expected + 1}]`,
    expected === undefined ? numExperts >= 1 : numExperts === expected,
    offsets.shape,
  )
  if (isOnHost(offsets.data) && isOnHost(slots.data)) checkSlots(offsets.data, slots.data)
  return {
    expertOffsets: offsets.data,
    sortedSlots: slots.data,
    numExperts,
    slots: slots.shape[0]!,
    devices: [offsets.device, slots.device],
  }
}

/** Offsets rise from 0 to at most the number of slots, and each listed slot exists: what kernels rely on. */
function checkSlots(offsets: Int32Array, slots: Int32Array): void {
  const count = slots.length
  let previous = 0
  for (const offset of offsets) {
    if (offset < previous || offset > count) {
      throw invalidArgValue('dispatch.expertOffsets', `offsets that rise from 0 to at most ${count}`, offset)
    }
    previous = offset
  }
  if (offsets[0] !== 0) throw invalidArgValue('dispatch.expertOffsets', 'a first offset of 0', offsets[0])
  for (let i = 0; i < previous; i++) {
    const slot = slots[i]!
    if (slot < 0 || slot >= count)
      throw invalidArgValue('dispatch.sortedSlots', `slots from 0 to ${count - 1}`, slot)
  }
}
