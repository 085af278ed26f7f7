/** DeepSeek-V3's block, which models of other publishers took over with its names. */

import type { Stack } from './family.js'
import { LAYERS } from './fields.js'
import { mlpNaming, sharedMlp, tensor } from './layouts.js'
import { noauxTc } from './scoring.js'
import { type SparseDefaults, sparseLayers } from './sparse-layers.js'

export const DEEPSEEK_SHARED = sharedMlp('shared_experts.', 'n_shared_experts', { default: 1 })

export const DEEPSEEK_V3_ONLY = { scoring_func: ['sigmoid'], topk_method: ['noaux_tc'] }

export function deepseekV3Stack(defaults: SparseDefaults = {}): Stack {
  return {
    ...LAYERS,
    sparse: sparseLayers(defaults),
    naming: [
      mlpNaming({
        router: { selectionBias: tensor('gate.e_score_correction_bias') },
        shared: DEEPSEEK_SHARED,
      }),
    ],
  }
}

/** Routing, layers and names of DeepSeek-V3 itself, with the defaults of its config class. */
export const DEEPSEEK_V3_DEFAULTS = {
  routing: noauxTc({ scale: 2.5, groups: [8, 4] }),
  stacks: [deepseekV3Stack({ numDense: 3 })],
}
