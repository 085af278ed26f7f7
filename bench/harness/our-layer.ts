/** This package, through its asynchronous call: the one that servers use, and the dearer one. */

import { holding } from './layers.js'
import { MoeLayer } from './package.js'
import { inputOf, type Peer, type PeerLayer, timeCalls } from './peer.js'
import type { Contestant } from './rounds.js'

/**
 * @param dtype int8 and int4: in bf16, the weights quantised while the layer is made
 * @param build the class of another build of the package
 */
export function createOurs(layer: PeerLayer, dtype: Peer['dtype'], build: typeof MoeLayer = MoeLayer): Peer {
  const { config, weights, threads } = layer
  const isQuantised = dtype === 'int8' || dtype === 'int4'
  const options = isQuantised ? { dtype: 'bf16' as const, weights: dtype } : holding(dtype)
  const made = build.create(config, weights, { device: 'cpu', threads, ...options })
  return {
    ...contestantOf(layer, made),
    name: 'sparse-experts',
    dtype,
    async output(numTokens) {
      return (await made.forward(inputOf(layer, numTokens, 0))).output
    },
    async close() {
      made.dispose()
    },
  }
}

/** Calls of a layer that is made, on the inputs of `layer`. */
export function contestantOf(layer: PeerLayer, made: MoeLayer): Contestant {
  const outputs = new Map<number, Float32Array>()
  const outputFor = (length: number) => {
    if (!outputs.has(length)) outputs.set(length, new Float32Array(length))
    return outputs.get(length)!
  }
  return {
    times: (numTokens, first, calls) =>
      timeCalls(layer, numTokens, first, calls, hidden =>
        made.forward(hidden, { output: outputFor(hidden.length) }),
      ),
  }
}
