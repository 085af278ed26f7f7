/** The option `config` of load: what may be said of a block whose tensors are there. */

import type { MoeConfig } from '../block/config.js'
import { checkOptionKeys, invalidArgType, invalidArgValue } from '../block/errors.js'
import { ROUTING_KEYS, SHAPE_KEYS } from '../block/resolve.js'

/** Fields of a block that follow from the tensors of a checkpoint. */
const FROM_TENSORS = [
  ...['numExperts', 'numIdentityExperts', 'hiddenSize', 'intermediateSize', 'gated', 'latentSize'],
  ...['latentNormEpsilon', 'numSharedExperts', 'sharedIntermediateSize', 'sharedGate', 'hashRouted'],
]

/** Whether its fields exist and are not those of the tensors; their values are checked with the whole block. */
export function checkConfigOption(config: Partial<MoeConfig>): void {
  if (typeof config !== 'object' || config === null) throw invalidArgType('config', 'an object', config)
  checkOptionKeys(config, [...ROUTING_KEYS, ...SHAPE_KEYS], 'config')
  for (const [key, value] of Object.entries(config)) {
    if (FROM_TENSORS.includes(key))
      throw invalidArgValue(`config.${key}`, 'nothing (it follows from the tensors)', value)
  }
}
