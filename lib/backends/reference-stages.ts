/** The five stages of the device `reference` on host arrays. */

import { toFloat32 } from '../dtype.js'
import { invalidArgShape } from '../errors.js'
import { combine } from '../reference/combine.js'
import { dispatch } from '../reference/dispatch.js'
import { expertMatmul } from '../reference/expert.js'
import { gate } from '../reference/gate.js'
import { drain } from '../reference/matrix.js'
import { Selector } from '../reference/select.js'
import type { StageRuntime } from './runtime.js'

/** The five stages of the device `reference`: double precision inside, rounded once to f32. */
export const referenceStages: StageRuntime = {
  device: 'reference',

  gate(hidden, hiddenDtype, routerWeight, weightDtype, bias, _numTokens, hiddenSize, numExperts) {
    const weight = toFloat32(routerWeight, weightDtype)
    return Float32Array.from(gate(toFloat32(hidden, hiddenDtype), weight, bias, { hiddenSize, numExperts }))
  },

  selectExperts(routerLogits, numTokens, routing, vectors, call) {
    const numOutputs = routing.numExperts + routing.numIdentityExperts
    if (routerLogits.length !== numTokens * numOutputs)
      throw invalidArgShape(
        'routerLogits',
        `[${numTokens}, ${numOutputs}] elements`,
        `${routerLogits.length}`,
      )
    const topkIds = new Int32Array(numTokens * routing.topK)
    const topkWeights = new Float32Array(numTokens * routing.topK)
    const nonFinite = new Uint8Array(numTokens)
    const selector = new Selector(routing, vectors, call, { topkIds, topkWeights, nonFinite })
    for (let token = 0; token < numTokens; token++)
      selector.row(token, routerLogits.subarray(token * numOutputs, (token + 1) * numOutputs))
    drain(selector.finish())
    return { topkIds, topkWeights, nonFinite }
  },

  dispatch,

  expertMatmul(request) {
    const { x, xDtype, weights, weightsDtype, expertOffsets, sortedSlots } = request
    return Float32Array.from(
      expertMatmul(
        toFloat32(x, xDtype),
        toFloat32(weights, weightsDtype),
        { expertOffsets, sortedSlots },
        request,
      ),
    )
  },

  combine(expertOutput, topkIds, topkWeights, _numTokens, topK, hiddenSize) {
    return Float32Array.from(combine(expertOutput, topkIds, topkWeights, { topK, hiddenSize }))
  },
}
