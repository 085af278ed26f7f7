/** DeepSeek-V3's block, which models of other publishers took over with its names. */

import type { Condition, Stack } from './family.js'
import { LAYERS } from './fields.js'
import { mlpNaming, sharedMlp, tensor } from './layouts.js'

export const DEEPSEEK_SHARED = sharedMlp('shared_experts.', 'n_shared_experts')

export const DEEPSEEK_V3_ONLY = { scoring_func: ['sigmoid'], topk_method: ['noaux_tc'] }

export function deepseekV3Stack(sparse: Condition): Stack {
  return {
    ...LAYERS,
    numExtraLayers: 'num_nextn_predict_layers',
    sparse,
    naming: [
      mlpNaming({
        router: { selectionBias: tensor('gate.e_score_correction_bias') },
        shared: DEEPSEEK_SHARED,
      }),
    ],
  }
}
