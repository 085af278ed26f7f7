/** Writes out a config's defaults for the backends, and refuses fields that exclude each other. */

import { ACTIVATIONS, SHARED_GATES } from '../spec/enums.js'
import type { MoeConfig, ResolvedMoeConfig } from './config.js'
import { invalidArgType } from './errors.js'
import { fieldsOf } from './option-fields.js'
import { MAX_SIZE, ROUTING_KEYS, routingFrom } from './resolve-routing.js'

export {
  checkRoutingVectors,
  MAX_EXPERTS,
  ROUTING_KEYS,
  resolveRouting,
  resolveRoutingConfig,
} from './resolve-routing.js'

/** Fields of MoeShape. */
export const SHAPE_KEYS = [
  'family',
  'hiddenSize',
  'intermediateSize',
  'activation',
  'gated',
  'swigluLimit',
  'swigluGateLimit',
  'swigluAlpha',
  'swigluUpOffset',
  'numSharedExperts',
  'sharedIntermediateSize',
  'sharedGate',
  'sharedSwigluLimit',
  'sharedSwigluGateLimit',
  'weightOn',
  'latentSize',
  'latentNormEpsilon',
  'routerInput',
  'routerNormEpsilon',
] as const

/**
 * Writes out every default of a block's config and checks that it can be; the result is deeply frozen. A resolved config
 * resolves to itself, so `MoeLayer.create(layer.config, …)` works.
 *
 * @throws as `resolveRouting`
 */
export function resolveConfig(config: MoeConfig | ResolvedMoeConfig): ResolvedMoeConfig {
  const fields = fieldsOf(config, 'config', [...ROUTING_KEYS, ...SHAPE_KEYS])
  const routing = routingFrom(fields)

  const family = fields.has('family') ? fields.raw('family') : 'custom'
  if (typeof family !== 'string') throw invalidArgType('config.family', 'a string', family)
  if (family === '') fields.refuse('family', 'a name')
  const hiddenSize = fields.integer('hiddenSize', 1, MAX_SIZE)
  const intermediateSize = fields.integer('intermediateSize', 1, MAX_SIZE)

  const activation = fields.oneOf('activation', ACTIVATIONS, 'silu')
  const gated = fields.boolean('gated', true)
  if (!gated) {
    const why = 'nothing with gated false (there is no gate to cap and no product)'
    fields.refuseUnless(0, why, 'swigluLimit', 'swigluUpOffset', 'sharedSwigluLimit')
  }
  if (activation !== 'silu' && activation !== 'situ')
    fields.refuseUnless(
      1,
      `1 with activation '${activation}' (only silu and situ have an alpha)`,
      'swigluAlpha',
    )

  const swigluLimit = fields.nonNegative('swigluLimit', 0)
  const sharedSwigluLimit = fields.nonNegative('sharedSwigluLimit', 0)
  if (swigluLimit === 0 || activation === 'situ')
    fields.refuseUnless(0, 'nothing without a clamp (swigluLimit)', 'swigluGateLimit')
  if (sharedSwigluLimit === 0 || activation === 'situ')
    fields.refuseUnless(0, 'nothing without a clamp (sharedSwigluLimit)', 'sharedSwigluGateLimit')

  const numSharedExperts = fields.integer('numSharedExperts', 0, MAX_SIZE, 0)
  if (numSharedExperts === 0) {
    const why = 'nothing with numSharedExperts 0'
    fields.refuseUnless(0, why, 'sharedIntermediateSize', 'sharedSwigluLimit')
    fields.refuseUnless('plain', why, 'sharedGate')
  }
  const sharedIntermediateSize =
    numSharedExperts === 0
      ? 0
      : fields.integer('sharedIntermediateSize', 1, MAX_SIZE, numSharedExperts * intermediateSize)

  const latentSize = fields.integer('latentSize', 0, MAX_SIZE, 0)
  if (latentSize > 0 && routing.numIdentityExperts > 0)
    fields.refuse('latentSize', 'nothing with identity experts, which pass hiddenSize through,')
  if (latentSize === 0) fields.refuseUnless(0, 'nothing without latentSize', 'latentNormEpsilon')

  return Object.freeze({
    family,
    ...routing,
    hiddenSize,
    intermediateSize,
    activation,
    gated,
    swigluLimit,
    swigluGateLimit: fields.nonNegative('swigluGateLimit', 0),
    swigluAlpha: fields.positive('swigluAlpha', 1),
    swigluUpOffset: fields.number('swigluUpOffset', 'a finite number', () => true, 0),
    numSharedExperts,
    sharedIntermediateSize,
    sharedGate: fields.oneOf('sharedGate', SHARED_GATES, 'plain'),
    sharedSwigluLimit,
    sharedSwigluGateLimit: fields.nonNegative('sharedSwigluGateLimit', 0),
    weightOn: fields.oneOf('weightOn', ['output', 'input'], 'output'),
    latentSize,
    latentNormEpsilon: fields.nonNegative('latentNormEpsilon', 0),
    routerInput: fields.oneOf('routerInput', ['hidden', 'separate'], 'hidden'),
    routerNormEpsilon: fields.nonNegative('routerNormEpsilon', 0),
  })
}
