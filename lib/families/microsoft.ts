/** Phi-3.5-MoE, and GRIN, whose block it took over. */

import type { FamilyRow, RoutingSizes } from './parts/family.js'
import { LAYERS, LOCAL_SIZES } from './parts/fields.js'
import { blockSparse } from './parts/layouts.js'
import { sparseLayers } from './parts/sparse-layers.js'

export const MICROSOFT_FAMILIES: readonly FamilyRow[] = [
  {
    // The jitter is also the threshold at inference; two experts whatever the config says.
    models: 'Phi-3.5-MoE, GRIN',
    routed: 'sparsemixer',
    modelTypes: ['phimoe', 'grinmoe'],
    ...LOCAL_SIZES,
    topK: 2,
    only: { num_experts_per_tok: [2] },
    routing: (config, { numExperts }: RoutingSizes) => ({
      scoringFunc: 'sparsemixer',
      numExperts,
      topK: 2,
      sparsemixerEpsilon: config.number('router_jitter_noise', 0.01),
    }),
    stacks: [{ ...LAYERS, sparse: sparseLayers(), naming: blockSparse({}, 'router.weight') }],
  },
]
