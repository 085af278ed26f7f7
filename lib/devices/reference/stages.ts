/** The five stages of the device `reference` on host arrays. */

import type { ActivationsOption } from '../../block/activations.js'
import { allocate } from '../../block/allocate.js'
import { toFloat32 } from '../../block/dtype.js'
import { invalidArgShape } from '../../block/errors.js'
import { decodeMatrix } from '../../checkpoint/load/decode.js'
import type { InMemoryMatrix } from '../../checkpoint/load/quantized-matrix.js'
import { combine } from '../../reference/combine.js'
import { dispatch } from '../../reference/dispatch.js'
import { expertMatmul } from '../../reference/expert.js'
import { gate } from '../../reference/gate.js'
import { drain } from '../../reference/matrix.js'
import { Selector } from '../../reference/select.js'
import type { ExpertMatmulRequest, StageKernels, StageRuntime } from '../contract.js'
import { onHost } from '../device-array.js'

/** Every stage is a plain loop. */
const REFERENCE_KERNELS: StageKernels = {
  gate: 'double-precision loop',
  select: 'double-precision loop',
  dispatch: 'double-precision loop',
  gateUp: 'double-precision loop',
  down: 'double-precision loop',
  combine: 'double-precision loop',
}

export function referenceKernels(activations: ActivationsOption): StageKernels {
  if (activations === 'exact') return REFERENCE_KERNELS
  const kernel = 'double-precision loop, int8 activations where weights are integers'
  return { ...REFERENCE_KERNELS, gateUp: kernel, down: kernel }
}

const isEncoded = (weights: ExpertMatmulRequest['weights']): weights is readonly InMemoryMatrix[] =>
  Array.isArray(weights)

/** The matrices of experts that have slots, decoded; nobody reads the others. */
function decodeExperts(
  experts: readonly InMemoryMatrix[],
  expertOffsets: Int32Array,
  { rows, cols }: { rows: number; cols: number },
): Float32Array[] {
  return experts.map(({ encoding, buffers }, e) =>
    expertOffsets[e] === expertOffsets[e + 1]
      ? allocate(Float32Array, 0)
      : decodeMatrix(encoding, buffers, rows, cols),
  )
}

/** The five stages of the device `reference`: double precision inside, rounded once to f32. */
export const referenceStages: StageRuntime = {
  device: 'reference',

  gate(hidden, hiddenDtype, routerWeight, weightDtype, bias, _numTokens, hiddenSize, numExperts) {
    const x = toFloat32(onHost(hidden), hiddenDtype)
    const weight = toFloat32(onHost(routerWeight), weightDtype)
    return Float32Array.from(gate(x, weight, bias && onHost(bias), { hiddenSize, numExperts }))
  },

  selectExperts(logits, numTokens, routing, vectors, call) {
    const routerLogits = onHost(logits)
    const numOutputs = routing.numExperts + routing.numIdentityExperts
    if (routerLogits.length !== numTokens * numOutputs)
      throw invalidArgShape(
        'routerLogits',
        `[${numTokens}, ${numOutputs}] elements`,
        `${routerLogits.length}`,
      )
    const topkIds = allocate(Int32Array, numTokens * routing.topK)
    const topkWeights = allocate(Float32Array, numTokens * routing.topK)
    const nonFinite = allocate(Uint8Array, numTokens)
    const selector = new Selector(routing, vectors, call, { topkIds, topkWeights, nonFinite })
    for (let token = 0; token < numTokens; token++)
      selector.row(token, routerLogits.subarray(token * numOutputs, (token + 1) * numOutputs))
    drain(selector.finish())
    return { topkIds, topkWeights }
  },

  dispatch: (topkIds, _numSlots, numExperts) => dispatch(onHost(topkIds), numExperts),

  expertMatmul(request) {
    const { x, xDtype, weights, weightsDtype, expertOffsets, sortedSlots, bias } = request
    return Float32Array.from(
      expertMatmul(
        toFloat32(onHost(x), xDtype),
        isEncoded(weights)
          ? decodeExperts(weights, onHost(expertOffsets), request)
          : toFloat32(onHost(weights), weightsDtype),
        { expertOffsets: onHost(expertOffsets), sortedSlots: onHost(sortedSlots) },
        { ...request, bias: bias && onHost(bias) },
      ),
    )
  },

  combine(expertOutput, dispatched, topkWeights, sizes) {
    const offsets = onHost(dispatched.expertOffsets)
    const slots = onHost(dispatched.sortedSlots)
    const used = allocate(Int32Array, slots.length).fill(-1)
    for (let i = 0; i < offsets.at(-1)!; i++) used[slots[i]!] = 0
    return Float32Array.from(combine(onHost(expertOutput), used, onHost(topkWeights), sizes))
  },
}
