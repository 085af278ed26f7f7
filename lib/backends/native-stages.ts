/** The five stages on a device of the addon. */

import type { NativeAddon } from '../binding-contract.js'
import { fromNativeError } from './native-errors.js'
import type { StageRuntime } from './runtime.js'

/** Stages on host arrays; every call allocates its results. Wrong ids or offsets are RangeErrors. */
export function nativeStages(addon: NativeAddon, device: string): StageRuntime {
  const run = (body: () => void) => {
    try {
      body()
    } catch (error) {
      throw fromNativeError(error, 'run')
    }
  }
  return {
    device,
    gate(hidden, hiddenDtype, routerWeight, weightDtype, bias, numTokens, hiddenSize, numExperts) {
      const logits = new Float32Array(numTokens * numExperts)
      run(() =>
        addon.gate(
          device,
          hidden,
          hiddenDtype,
          routerWeight,
          weightDtype,
          bias,
          numTokens,
          hiddenSize,
          numExperts,
          logits,
        ),
      )
      return logits
    },
    selectExperts(routerLogits, numTokens, routing, vectors, { tokenIds, topK, topP, sequenceLengths }) {
      const topkIds = new Int32Array(numTokens * routing.topK)
      const topkWeights = new Float32Array(numTokens * routing.topK)
      const nonFinite = new Uint8Array(numTokens)
      run(() =>
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
          nonFinite,
        ),
      )
      return { topkIds, topkWeights, nonFinite }
    },
    dispatch(topkIds, numExperts) {
      const expertOffsets = new Int32Array(numExperts + 1)
      const sortedSlots = new Int32Array(topkIds.length)
      run(() => addon.dispatch(device, topkIds, numExperts, expertOffsets, sortedSlots))
      return { expertOffsets, sortedSlots }
    },
    expertMatmul(request) {
      const width = request.activation?.gated ? request.rows / 2 : request.rows
      const output = new Float32Array(request.sortedSlots.length * width)
      run(() => addon.expertMatmul(device, request, output))
      return output
    },
    combine(expertOutput, topkIds, topkWeights, numTokens, topK, hiddenSize) {
      const output = new Float32Array(numTokens * hiddenSize)
      run(() =>
        addon.combine(device, expertOutput, topkIds, topkWeights, numTokens, topK, hiddenSize, output),
      )
      return output
    },
  }
}
