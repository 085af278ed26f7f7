/** The weights of a block as the reference reads them: views with sizes checked, biases apart. */

import type { ResolvedMoeConfig } from '../block/config.js'
import { invalidArgShape, invalidArgType, invalidArgValue } from '../block/errors.js'
import { checkRoutingVectors } from '../block/resolve.js'
import type { RoutingVectors } from '../block/routing.js'
import { isFloat32Array } from '../block/typed-arrays.js'
import type { ExpertWeights, FloatWeights, WeightMatrix } from '../block/weights.js'
import type { ActivationSpec } from './activation.js'
import type { ExpertTensors } from './expert.js'
import { type Matrix, makeWiden, viewMatrix, type Widen } from './matrix.js'

/** One block. R = router outputs (real, then identity experts), H = hiddenSize, D = latentSize or hiddenSize. */
export interface LayerTensors {
  /** `[R, H]` */
  readonly router: Matrix
  /** `[R]` */
  readonly routerBias: Float32Array | null
  /** `[H]` */
  readonly routerInputScale: Float32Array | null
  readonly routing: RoutingVectors
  readonly experts: readonly ExpertTensors[]
  readonly shared: ExpertTensors | null
  /** `[1, H]` */
  readonly sharedGate: Matrix | null
  /** `[1]` */
  readonly sharedLogitBias: Float32Array | null
  /** `[D, H]` */
  readonly latentDown: Matrix | null
  /** `[H, D]` */
  readonly latentUp: Matrix | null
  /** `[D]` */
  readonly latentNorm: Float32Array | null
  /** `[H]` */
  readonly outputBias: Float32Array | null
}

/** What the shared MLP does between its matmuls: the experts' activation with a clamp of its own. */
export function sharedActivation(config: ResolvedMoeConfig): ActivationSpec {
  const { activation, gated, swigluAlpha, swigluUpOffset } = config
  const limits = { swigluLimit: config.sharedSwigluLimit, swigluGateLimit: config.sharedSwigluGateLimit }
  return { activation, gated, swigluAlpha, swigluUpOffset, ...limits }
}

function vector(value: Float32Array | undefined | null, length: number, name: string): Float32Array | null {
  if (value === undefined || value === null) return null
  if (!isFloat32Array(value)) throw invalidArgType(name, 'a Float32Array', value)
  if (value.length !== length) throw invalidArgShape(name, `${length} elements`, `${value.length}`)
  return value
}

/** A tensor that a config either needs or leaves no room for. */
function checkPresence(present: boolean, needed: boolean, name: string, why: string, value: unknown): void {
  if (needed && !present) throw invalidArgType(name, `an array (${why})`, value)
  if (!needed && present) throw invalidArgValue(name, `nothing unless ${why}`, value)
}

function expertTensors(
  weights: ExpertWeights<WeightMatrix>,
  config: ResolvedMoeConfig,
  width: number,
  size: number,
  name: string,
  widen: Widen,
): ExpertTensors {
  if (typeof weights !== 'object' || weights === null)
    throw invalidArgType(name, 'an object with gate, up and down', weights)
  const { gate, up, down, gateBias, upBias, downBias } = weights
  checkPresence(gate != null, config.gated, `${name}.gate`, 'config.gated is true', gate)
  checkPresence(
    gateBias != null,
    gateBias != null && config.gated,
    `${name}.gateBias`,
    'config.gated is true',
    gateBias,
  )
  return {
    gate: gate == null ? null : viewMatrix(gate, width, size, `${name}.gate`, widen),
    up: viewMatrix(up, width, size, `${name}.up`, widen),
    down: viewMatrix(down, size, width, `${name}.down`, widen),
    gateBias: vector(gateBias, width, `${name}.gateBias`),
    upBias: vector(upBias, width, `${name}.upBias`),
    downBias: vector(downBias, size, `${name}.downBias`),
  }
}

/**
 * Views of a caller's weights. 16-bit arrays are widened (or seen through `asNumbers`), nothing is rounded.
 *
 * @throws TypeError `ERR_MOE_INVALID_ARG_TYPE` (missing tensor or wrong kind); RangeError `ERR_MOE_INVALID_ARG_SHAPE`,
 * `ERR_MOE_INVALID_ARG_VALUE` (a tensor that the config leaves no room for).
 */
export function layerTensors(
  config: ResolvedMoeConfig,
  weights: FloatWeights,
  asNumbers?: Widen,
): LayerTensors {
  if (typeof weights !== 'object' || weights === null) throw invalidArgType('weights', 'an object', weights)
  if (typeof weights.router !== 'object' || weights.router === null)
    throw invalidArgType('weights.router', 'an object with the router weight', weights.router)
  if (!Array.isArray(weights.experts))
    throw invalidArgType('weights.experts', 'an array with one entry per expert', weights.experts)
  const { hiddenSize, numExperts, latentSize, intermediateSize, sharedIntermediateSize } = config
  if (weights.experts.length !== numExperts)
    throw invalidArgShape('weights.experts', `${numExperts} experts`, `${weights.experts.length}`)
  const numOutputs = numExperts + config.numIdentityExperts
  const size = latentSize || hiddenSize
  const widen = asNumbers ?? makeWiden(weights.dtype ?? 'bf16')
  const { router, shared, sharedGate, sharedLogitBias, latentDown, latentUp, latentNorm } = weights
  const { selectionBias, perExpertScale, hashTable, inputScale } = router
  const routing = { selectionBias, perExpertScale, hashTable }
  checkRoutingVectors(config, routing)
  const hasGate = config.sharedGate !== 'plain'
  const normalized = config.routerNormEpsilon > 0
  checkPresence(
    inputScale != null,
    normalized,
    'weights.router.inputScale',
    'config.routerNormEpsilon is set',
    inputScale,
  )
  checkPresence(
    shared != null,
    config.numSharedExperts > 0,
    'weights.shared',
    'config.numSharedExperts > 0',
    shared,
  )
  checkPresence(
    sharedGate != null,
    hasGate,
    'weights.sharedGate',
    "config.sharedGate is not 'plain'",
    sharedGate,
  )
  checkPresence(
    latentDown != null,
    latentSize > 0,
    'weights.latentDown',
    'config.latentSize is set',
    latentDown,
  )
  checkPresence(latentUp != null, latentSize > 0, 'weights.latentUp', 'config.latentSize is set', latentUp)
  checkPresence(
    sharedLogitBias != null,
    sharedLogitBias != null && hasGate,
    'weights.sharedLogitBias',
    "config.sharedGate is not 'plain'",
    sharedLogitBias,
  )
  checkPresence(
    latentNorm != null,
    config.latentNormEpsilon > 0,
    'weights.latentNorm',
    'config.latentNormEpsilon is set',
    latentNorm,
  )
  const optional = (matrix: WeightMatrix | undefined, rows: number, cols: number, name: string) =>
    matrix == null ? null : viewMatrix(matrix, rows, cols, name, widen)
  return {
    router: viewMatrix(router.weight, numOutputs, hiddenSize, 'weights.router.weight', widen),
    routerBias: vector(router.bias, numOutputs, 'weights.router.bias'),
    routerInputScale: vector(inputScale, hiddenSize, 'weights.router.inputScale'),
    routing,
    experts: weights.experts.map((expert, e) =>
      expertTensors(expert, config, intermediateSize, size, `weights.experts[${e}]`, widen),
    ),
    shared: shared
      ? expertTensors(shared, config, sharedIntermediateSize, hiddenSize, 'weights.shared', widen)
      : null,
    sharedGate: optional(sharedGate, 1, hiddenSize, 'weights.sharedGate'),
    sharedLogitBias: vector(sharedLogitBias, 1, 'weights.sharedLogitBias'),
    latentDown: optional(latentDown, latentSize, hiddenSize, 'weights.latentDown'),
    latentUp: optional(latentUp, hiddenSize, latentSize, 'weights.latentUp'),
    latentNorm: vector(latentNorm, latentSize, 'weights.latentNorm'),
    outputBias: vector(weights.outputBias, hiddenSize, 'weights.outputBias'),
  }
}
