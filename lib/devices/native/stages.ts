/** The five stages on a device of the addon. */

import { allocate } from '../../block/allocate.js'
import type { StageRuntime } from '../contract.js'
import type { NativeBuffer, Stored } from '../device-array.js'
import type { NativeAddon } from './binding-contract.js'
import { fromNativeError } from './errors.js'

interface Allocators {
  f32(length: number): Stored<Float32Array>
  i32(length: number): Stored<Int32Array>
}

/** Stages on arrays of the device, typed arrays where `isHost`; every call allocates its results there. Wrong ids or offsets are RangeErrors. */
export function nativeStages(addon: NativeAddon, device: string, isHost: boolean): StageRuntime {
  /** Runs a stage that writes new arrays; they are freed when it fails. */
  const run = <Result>(body: (allocate: Allocators) => Result): Result => {
    const allocated: NativeBuffer[] = []
    const block = (length: number): NativeBuffer => {
      const buffer = addon.allocate(device, 4 * length)
      allocated.push(buffer)
      return buffer
    }
    const allocators: Allocators = {
      f32: length => (isHost ? allocate(Float32Array, length) : block(length)),
      i32: length => (isHost ? allocate(Int32Array, length) : block(length)),
    }
    try {
      return body(allocators)
    } catch (error) {
      for (const buffer of allocated) buffer.dispose()
      throw fromNativeError(error, 'run')
    }
  }
  return {
    device,
    gate: (...inputs) =>
      run(({ f32 }) => {
        const [, , , , , numTokens, , numExperts] = inputs
        const logits = f32(numTokens * numExperts)
        addon.gate(device, ...inputs, logits)
        return logits
      }),
    selectExperts: (routerLogits, numTokens, routing, vectors, { tokenIds, topK, topP, sequenceLengths }) =>
      run(({ f32, i32 }) => {
        const topkIds = i32(numTokens * routing.topK)
        const topkWeights = f32(numTokens * routing.topK)
        addon.selectExperts(
          device,
          routing,
          vectors,
          routerLogits,
          numTokens,
          tokenIds,
          topK,
          topP,
          sequenceLengths,
          topkIds,
          topkWeights,
          null,
        )
        return { topkIds, topkWeights }
      }),
    dispatch: (topkIds, numSlots, numExperts) =>
      run(({ i32 }) => {
        const expertOffsets = i32(numExperts + 1)
        const sortedSlots = i32(numSlots)
        addon.dispatch(device, topkIds, numSlots, numExperts, expertOffsets, sortedSlots)
        return { expertOffsets, sortedSlots }
      }),
    expertMatmul: request =>
      run(({ f32 }) => {
        const slots = request.gather ? request.xRows * request.topK : request.xRows
        const output = f32(slots * (request.activation?.gated ? request.rows / 2 : request.rows))
        addon.expertMatmul(device, request, output)
        return output
      }),
    combine: (expertOutput, { expertOffsets, sortedSlots }, topkWeights, sizes) =>
      run(({ f32 }) => {
        const { numExperts, numTokens, topK, hiddenSize } = sizes
        const output = f32(numTokens * hiddenSize)
        addon.combine(
          device,
          expertOutput,
          expertOffsets,
          sortedSlots,
          topkWeights,
          numExperts,
          numTokens,
          topK,
          hiddenSize,
          output,
        )
        return output
      }),
  }
}
