/** dots.llm1: DeepSeek-V3's block. */

import { deepseekV3Stack } from './parts/deepseek-block.js'
import type { FamilyRow } from './parts/family.js'
import { ROUTED_SIZES } from './parts/fields.js'
import { noauxTc } from './parts/scoring.js'

export const REDNOTE_FAMILIES: readonly FamilyRow[] = [
  {
    models: 'dots.llm1',
    routed: 'as DeepSeek-V3',
    modelTypes: ['dots1'],
    ...ROUTED_SIZES,
    only: { scoring_func: ['sigmoid', 'noaux_tc'], topk_method: ['noaux_tc'] },
    routing: noauxTc({ norm: false }),
    stacks: [deepseekV3Stack()],
  },
]
