/** A.X-K: as DeepSeek-V3, but experts of groups that are left out rank with 0. A norm of the block's output stands behind the block. */

import { DEEPSEEK_V3_ONLY, deepseekV3Stack } from './parts/deepseek-block.js'
import type { FamilyRow } from './parts/family.js'
import { ROUTED_SIZES } from './parts/fields.js'
import { noauxTc } from './parts/scoring.js'

const ZEROED = { scale: 2.5, groupScore: 'top2_sum_zeroed' } as const

export const SKT_FAMILIES: readonly FamilyRow[] = [
  {
    models: 'A.X-K1',
    routed: 'as DeepSeek-V3; experts of other groups with 0',
    modelTypes: ['axk1'],
    ...ROUTED_SIZES,
    only: DEEPSEEK_V3_ONLY,
    routing: noauxTc({ ...ZEROED, groups: [8, 4] }),
    stacks: [deepseekV3Stack({ numDense: 1 })],
  },
  {
    models: 'A.X-K2, A.X-K2-Light',
    routed: 'as DeepSeek-V3; experts of other groups with 0',
    modelTypes: ['axk2'],
    ...ROUTED_SIZES,
    only: DEEPSEEK_V3_ONLY,
    routing: noauxTc(ZEROED),
    stacks: [deepseekV3Stack({ numDense: 1 })],
  },
]
