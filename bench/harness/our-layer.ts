/** This package, through its asynchronous call: the one that servers use, and the dearer one. */

import { type DType, MoeLayer } from './package.js'
import { inputOf, type Peer, type PeerLayer, timeCalls } from './peer.js'

/** `build`: the class of another build of the package. */
export function createOurs(layer: PeerLayer, dtype: DType, build: typeof MoeLayer = MoeLayer): Peer {
  const { config, weights, threads } = layer
  const made = build.create(config, weights, { device: 'cpu', dtype, threads })
  const outputs = new Map<number, Float32Array>()
  const outputFor = (length: number) => {
    if (!outputs.has(length)) outputs.set(length, new Float32Array(length))
    return outputs.get(length)!
  }
  return {
    name: 'sparse-experts',
    dtype,
    times: (numTokens, first, calls) =>
      timeCalls(layer, numTokens, first, calls, hidden =>
        made.forward(hidden, { output: outputFor(hidden.length) }),
      ),
    async output(numTokens) {
      return (await made.forward(inputOf(layer, numTokens, 0))).output
    },
    async close() {
      made.dispose()
    },
  }
}
