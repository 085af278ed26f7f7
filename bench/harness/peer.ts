/** An implementation of a layer that is timed beside others, and the layer that all of them run. */

import type { DType, MoeConfig, MoeWeights } from './package.js'
import type { Contestant } from './rounds.js'

/** One layer and the inputs of its calls. All peers hold the same weights: values of bf16, widened where a peer computes in f32. */
export interface PeerLayer {
  shape: string
  config: MoeConfig
  /** bf16. */
  weights: MoeWeights
  /** `[rows, hiddenSize]`; call n of T tokens takes a window of it. */
  hidden: Float32Array
  threads: number
  /** Where the weights lie as files, for peers that read them; see files.ts. */
  directory: string
}

export interface Peer extends Contestant {
  name: string
  /** Of the experts' arithmetic, or of the stored weights where they are quantized. */
  dtype: DType | 'int8' | 'int4'
  /** Output for input number 0. */
  output(numTokens: number): Promise<Float32Array>
  /** CPU time of a process of its own, so that it is not taken for other load. */
  cpuMs?(): number
  close(): Promise<void>
}

/** First row of a call's window: the same for every peer. */
export function windowStart(numRows: number, numTokens: number, call: number): number {
  return (call * numTokens) % (numRows - numTokens + 1)
}

export function inputOf(layer: PeerLayer, numTokens: number, call: number): Float32Array {
  const { hiddenSize } = layer.config
  const first = windowStart(layer.hidden.length / hiddenSize, numTokens, call)
  return layer.hidden.subarray(first * hiddenSize, (first + numTokens) * hiddenSize)
}

/** Times of a peer that runs in this process. */
export async function timeCalls(
  layer: PeerLayer,
  numTokens: number,
  first: number,
  calls: number,
  run: (hidden: Float32Array) => unknown,
): Promise<number[]> {
  const times: number[] = []
  for (let call = 0; call < calls; call++) {
    const hidden = inputOf(layer, numTokens, first + call)
    const began = performance.now()
    await run(hidden)
    times.push(performance.now() - began)
  }
  return times
}
