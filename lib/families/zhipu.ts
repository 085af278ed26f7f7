/** GLM-4.5 and its successors: DeepSeek-V3's block. */

import { DEEPSEEK_V3_ONLY, deepseekV3Stack } from './parts/deepseek-block.js'
import type { FamilyRow } from './parts/family.js'
import { ROUTED_SIZES } from './parts/fields.js'
import { noauxTc } from './parts/scoring.js'

export const ZHIPU_FAMILIES: readonly FamilyRow[] = [
  {
    models: 'GLM-4.5, 4.6, 4.7',
    routed: 'as DeepSeek-V3',
    modelTypes: ['glm4_moe', 'glm4v_moe'],
    ...ROUTED_SIZES,
    only: { scoring_func: ['sigmoid', 'noaux_tc'], topk_method: ['noaux_tc'] },
    routing: noauxTc(),
    stacks: [deepseekV3Stack({ numDense: 1 })],
  },
  {
    models: 'GLM-4.7-Flash',
    routed: 'as DeepSeek-V3',
    modelTypes: ['glm4_moe_lite'],
    ...ROUTED_SIZES,
    only: DEEPSEEK_V3_ONLY,
    routing: noauxTc({ scale: 1.8 }),
    stacks: [deepseekV3Stack({ numDense: 1 })],
  },
  {
    models: 'GLM-5',
    routed: 'as DeepSeek-V3',
    modelTypes: ['glm_moe_dsa'],
    ...ROUTED_SIZES,
    only: DEEPSEEK_V3_ONLY,
    routing: noauxTc({ scale: 2.5 }),
    stacks: [deepseekV3Stack({ numDense: 3 })],
  },
]
