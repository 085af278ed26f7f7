/** Which experts a trace met most: the fixed set of a static cache, and the warm start of any other. */

import { allocate } from '../block/allocate.js'
import { invalidArgValue } from '../block/errors.js'
import type { CachePools } from '../block/expert-cache.js'
import type { TraceLayer } from './format.js'
import type { Trace } from './trace.js'

/** What is known of layers by their routing: of a trace. */
export type Profile = Pick<Trace, 'layers' | 'topkIds'>

/**
 * Those layers of a trace, in the order of `layers`.
 *
 * @throws RangeError ERR_MOE_INVALID_ARG_VALUE where it has not all of them, with as many experts
 */
export function profileOf(
  trace: Trace,
  layers: readonly Pick<TraceLayer, 'layer' | 'numExperts' | 'topK'>[],
): Profile {
  const found = layers.map(({ layer, numExperts, topK }) =>
    trace.layers.findIndex(own => own.layer === layer && own.numExperts === numExperts && own.topK === topK),
  )
  const missing = layers[found.indexOf(-1)]
  if (missing)
    throw invalidArgValue(
      'cache.profile',
      `a trace of layer ${missing.layer} with ${missing.topK} of ${missing.numExperts} experts a token`,
      trace.layers.map(({ layer, numExperts, topK }) => `${layer} (${topK} of ${numExperts})`).join(', '),
    )
  return { layers: found.map(i => trace.layers[i]!), topkIds: found.map(i => trace.topkIds[i]!) }
}

/** An expert of a layer, by the layer's index in the trace. */
export interface ProfiledExpert {
  layer: number
  expert: number
}

/**
 * For each pool as many experts as it has slots, those first that most rows chose; among equals the lower layer and the lower expert.
 */
export function mostUsed(trace: Profile, pools: CachePools): ProfiledExpert[][] {
  const counts = trace.layers.map(({ numExperts }, layer) => {
    const count = allocate(Float64Array, numExperts)
    for (const id of trace.topkIds[layer]!) if (id < numExperts) count[id]!++
    return count
  })
  return pools.poolSlots.map((slots, pool) => {
    const experts = counts.flatMap((count, layer) =>
      pools.poolOf[layer] === pool ? Array.from(count, (_, expert) => ({ layer, expert })) : [],
    )
    const rows = ({ layer, expert }: ProfiledExpert) => counts[layer]![expert]!
    // The order of equals stays as it is: by layer, then by expert.
    return experts.sort((a, b) => rows(b) - rows(a)).slice(0, slots)
  })
}
