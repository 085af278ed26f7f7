/** The tensors that a load leaves, put together as a layer's weights. */

import type { ResolvedMoeConfig } from '../../block/config.js'
import type { DType } from '../../block/dtype.js'
import type { FloatWeights, WeightMatrix } from '../../block/weights.js'
import type { VectorTensors } from '../../spec/vectors.js'

/** The matrices of one expert, or of the fused shared MLP: `[I, D]`, `[I, D]`, `[D, I]`. */
export interface ExpertMatrices {
  gate?: WeightMatrix
  up: WeightMatrix
  down: WeightMatrix
}

/** All matrices of a layer but the router, which is among the vectors. Values are already those of the layer's dtype. */
export interface LayerMatrices {
  /** One entry per real expert. */
  experts: readonly ExpertMatrices[]
  shared?: ExpertMatrices
  /** `[latentSize, H]` */
  latentDown?: WeightMatrix
  /** `[H, latentSize]` */
  latentUp?: WeightMatrix
}

const part = (all: Float32Array | undefined, index: number, length: number) =>
  all?.subarray(index * length, (index + 1) * length)

/** Puts vectors and matrices together as the weights that the reference checks and reads. */
export function assembleWeights(
  config: ResolvedMoeConfig,
  dtype: DType,
  vectors: VectorTensors,
  matrices: LayerMatrices,
): FloatWeights {
  const { intermediateSize, hiddenSize } = config
  const size = config.latentSize || hiddenSize
  return {
    dtype,
    router: {
      weight: vectors.routerWeight,
      bias: vectors.routerBias,
      selectionBias: vectors.selectionBias,
      perExpertScale: vectors.perExpertScale,
      inputScale: vectors.routerInputScale,
      hashTable: vectors.hashTable,
    },
    experts: matrices.experts.map((expert, e) => ({
      ...expert,
      gateBias: part(vectors.gateBias, e, intermediateSize),
      upBias: part(vectors.upBias, e, intermediateSize),
      downBias: part(vectors.downBias, e, size),
    })),
    shared: matrices.shared && {
      ...matrices.shared,
      gateBias: vectors.sharedGateBias,
      upBias: vectors.sharedUpBias,
      downBias: vectors.sharedDownBias,
    },
    sharedGate: vectors.sharedGate,
    sharedLogitBias: vectors.sharedLogitBias,
    latentDown: matrices.latentDown,
    latentUp: matrices.latentUp,
    latentNorm: vectors.latentNorm,
    outputBias: vectors.outputBias,
  }
}
