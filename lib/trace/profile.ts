/** Which experts a trace met most: the fixed set of a static cache, and the warm start of any other. */

import { allocate } from '../block/allocate.js'
import type { CachePools } from '../block/expert-cache.js'
import type { Trace } from './trace.js'

/** An expert of a layer, by the layer's index in the trace. */
export interface ProfiledExpert {
  layer: number
  expert: number
}

/**
 * For each pool as many experts as it has slots, those first that most rows chose; among equals the lower layer and the lower expert.
 */
export function mostUsed(trace: Trace, pools: CachePools): ProfiledExpert[][] {
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
