/** What a trace says of a layer that is loaded. */

import { createHash } from 'node:crypto'
import type { ResolvedMoeConfig } from '../block/config.js'
import { unitCosts } from '../block/cost.js'
import type { DType } from '../block/dtype.js'
import type { LayerWeightFormat } from '../block/weight-format.js'
import type { TraceLayer } from './format.js'

/** Hexadecimal digits of a hash: 64 bits tell the configs of any collection of models apart. */
const HASH_DIGITS = 16

/** @param cachedExpertBytes what a slot of the layer's cache takes, where it has one */
export function traceLayer(
  layer: number,
  config: ResolvedMoeConfig,
  dtype: DType,
  weightFormat: LayerWeightFormat,
  cachedExpertBytes?: number,
): TraceLayer {
  const { numExperts, topK } = config
  // The order of a config's fields is that in which it was made.
  const fields = Object.entries(config).sort(([a], [b]) => (a < b ? -1 : 1))
  const hash = createHash('sha256').update(JSON.stringify(fields)).digest('hex')
  const expertBytes = cachedExpertBytes ?? unitCosts(config, weightFormat).expertBytes
  return {
    ...{ layer, numExperts, topK, expertBytes: Math.ceil(expertBytes), dtype },
    configHash: hash.slice(0, HASH_DIGITS),
  }
}
