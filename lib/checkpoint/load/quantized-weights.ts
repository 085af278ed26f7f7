/** A caller's weights with every quantised matrix decoded, for devices that compute on floats alone. */

import type { ResolvedMoeConfig } from '../../block/config.js'
import type {
  ExpertMatrix,
  ExpertWeights,
  FloatWeights,
  MoeWeights,
  WeightMatrix,
} from '../../block/weights.js'
import { decodeQuantized, isQuantizedMatrix } from './quantized-matrix.js'

/**
 * @returns the weights, and the arrays in them that were codes
 * @throws TypeError and RangeError with ERR_MOE_INVALID_ARG_*; what is no weights at all is returned as it is
 */
export function decodedWeights(
  config: ResolvedMoeConfig,
  weights: MoeWeights,
): { weights: FloatWeights; arrays: ReadonlySet<unknown> } {
  const arrays = new Set<unknown>()
  const { hiddenSize, intermediateSize, sharedIntermediateSize, latentSize } = config
  const decode = (matrix: ExpertMatrix, rows: number, cols: number, name: string): WeightMatrix => {
    if (!isQuantizedMatrix(matrix)) return matrix
    const values = decodeQuantized(matrix, rows, cols, name)
    arrays.add(values)
    return values
  }
  const mlp = (expert: ExpertWeights, width: number, size: number, path: string) => {
    if (typeof expert !== 'object' || expert === null) return expert
    const { gate, up, down } = expert
    return {
      ...expert,
      ...(gate ? { gate: decode(gate, width, size, `${path}.gate`) } : {}),
      up: decode(up, width, size, `${path}.up`),
      down: decode(down, size, width, `${path}.down`),
    }
  }
  const isLike = typeof weights === 'object' && weights !== null && Array.isArray(weights.experts)
  if (!isLike) return { weights: weights as FloatWeights, arrays }
  const { experts, shared, latentDown, latentUp } = weights
  const outer = latentSize || hiddenSize
  const decoded = {
    ...weights,
    experts: experts.map((expert, e) => mlp(expert, intermediateSize, outer, `weights.experts[${e}]`)),
    ...(shared ? { shared: mlp(shared, sharedIntermediateSize, hiddenSize, 'weights.shared') } : {}),
    ...(latentDown ? { latentDown: decode(latentDown, latentSize, hiddenSize, 'weights.latentDown') } : {}),
    ...(latentUp ? { latentUp: decode(latentUp, hiddenSize, latentSize, 'weights.latentUp') } : {}),
  }
  return { weights: decoded as FloatWeights, arrays }
}
