/** This package, through its asynchronous call: the one that servers use, and the dearer one. */

import { holding } from './layers.js'
import { MoeLayer } from './package.js'
import { inputOf, type Peer, type PeerLayer, timeCalls } from './peer.js'
import type { Contestant } from './rounds.js'

/** The name of this package among the peers. */
export const OURS = 'sparse-experts'
/** The same with rows as codes, which is another arithmetic. */
export const OURS_INT8_ACTIVATIONS = `${OURS}, int8 activations`

/**
 * @param dtype int8 and int4: in bf16, the weights quantised while the layer is made
 * @param build the class of another build of the package
 * @param activations int8: rows are rounded to codes as well, and multiplied with those of the weights
 */
export function createOurs(
  layer: PeerLayer,
  dtype: Peer['dtype'],
  build: typeof MoeLayer = MoeLayer,
  activations: 'exact' | 'int8' = 'exact',
): Peer {
  const { config, weights, threads } = layer
  const isQuantised = dtype === 'int8' || dtype === 'int4'
  const options = isQuantised ? { dtype: 'bf16' as const, weights: dtype } : holding(dtype)
  const made = build.create(config, weights, {
    ...{ device: 'cpu', threads, ...options },
    ...(activations === 'int8' ? { activations } : {}),
  })
  return {
    ...contestantOf(layer, made),
    name: activations === 'int8' ? OURS_INT8_ACTIVATIONS : OURS,
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
