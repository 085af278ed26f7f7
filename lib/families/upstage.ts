/** Solar Open: DeepSeek-V3's block. */

import { DEEPSEEK_V3_ONLY, deepseekV3Stack } from './parts/deepseek-block.js'
import type { FamilyRow } from './parts/family.js'
import { ROUTED_SIZES } from './parts/fields.js'
import { noauxTc } from './parts/scoring.js'

export const UPSTAGE_FAMILIES: readonly FamilyRow[] = [
  {
    models: 'Solar Open',
    routed: 'as DeepSeek-V3',
    modelTypes: ['solar_open', 'solar_open2'],
    ...ROUTED_SIZES,
    only: DEEPSEEK_V3_ONLY,
    routing: noauxTc(),
    stacks: [deepseekV3Stack()],
  },
]
