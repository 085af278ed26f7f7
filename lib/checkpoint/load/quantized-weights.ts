/** A caller's weights with every quantised matrix decoded, for devices that compute on floats alone. */

import type { ResolvedMoeConfig } from '../../block/config.js'
import type {
  ExpertMatrix,
  ExpertWeights,
  FloatWeights,
  MoeWeights,
  WeightMatrix,
} from '../../block/weights.js'
import type { MatrixPlace } from '../plan/layer-formats.js'
import { storedName } from '../plan/stored-name.js'
import { decodeMatrix } from './decode.js'
import { type InMemoryMatrix, inMemoryMatrix, isQuantizedMatrix } from './quantized-matrix.js'

/** A matrix that was codes, and what they were. */
export type CodedMatrix = MatrixPlace & InMemoryMatrix & { stored: string; cols: number }

export interface DecodedWeights {
  weights: FloatWeights
  /** The arrays in them that were codes. */
  arrays: ReadonlySet<unknown>
  codes: readonly CodedMatrix[]
}

/**
 * @returns the weights as floats
 * @throws TypeError and RangeError with ERR_MOE_INVALID_ARG_*; what is no weights at all is returned as it is
 */
export function decodedWeights(config: ResolvedMoeConfig, weights: MoeWeights): DecodedWeights {
  const arrays = new Set<unknown>()
  const codes: CodedMatrix[] = []
  const { hiddenSize, intermediateSize, sharedIntermediateSize, latentSize } = config
  const decode = (
    matrix: ExpertMatrix,
    rows: number,
    cols: number,
    name: string,
    place: MatrixPlace,
  ): WeightMatrix => {
    if (!isQuantizedMatrix(matrix)) return matrix
    const { encoding, buffers } = inMemoryMatrix(matrix, rows, cols, name)
    const values = decodeMatrix(encoding, buffers, rows, cols)
    arrays.add(values)
    const stored = storedName({ encoding, ...buffers }, rows, cols)
    codes.push({ ...place, encoding, buffers, cols, stored })
    return values
  }
  const mlp = (
    weights: ExpertWeights,
    [width, size]: readonly [number, number],
    path: string,
    role: MatrixPlace['role'],
    expert: number,
  ) => {
    if (typeof weights !== 'object' || weights === null) return weights
    const { gate, up, down } = weights
    const place = { role, expert }
    return {
      ...weights,
      ...(gate ? { gate: decode(gate, width, size, `${path}.gate`, { ...place, matrix: 'gate' }) } : {}),
      up: decode(up, width, size, `${path}.up`, { ...place, matrix: 'up' }),
      down: decode(down, size, width, `${path}.down`, { ...place, matrix: 'down' }),
    }
  }
  // What has another number of experts is refused by who reads the weights, before anything walks over them.
  const isLike =
    typeof weights === 'object' &&
    weights !== null &&
    Array.isArray(weights.experts) &&
    weights.experts.length === config.numExperts
  if (!isLike) return { weights: weights as FloatWeights, arrays, codes }
  const { experts, shared, latentDown, latentUp } = weights
  const latent = (matrix: ExpertMatrix, kind: 'down' | 'up') => {
    const [rows, cols] = kind === 'down' ? [latentSize, hiddenSize] : [hiddenSize, latentSize]
    const name = kind === 'down' ? 'weights.latentDown' : 'weights.latentUp'
    return decode(matrix, rows, cols, name, { role: 'latent', expert: 0, matrix: kind })
  }
  const outer = latentSize || hiddenSize
  const decoded = {
    ...weights,
    experts: experts.map((expert, e) =>
      mlp(expert, [intermediateSize, outer], `weights.experts[${e}]`, 'expert', e),
    ),
    ...(shared
      ? { shared: mlp(shared, [sharedIntermediateSize, hiddenSize], 'weights.shared', 'shared', 0) }
      : {}),
    ...(latentDown ? { latentDown: latent(latentDown, 'down') } : {}),
    ...(latentUp ? { latentUp: latent(latentUp, 'up') } : {}),
  }
  return { weights: decoded as FloatWeights, arrays, codes }
}
