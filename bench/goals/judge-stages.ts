/** What a layer spends on anything but its experts: gate, selection, dispatch and combine, by its own clock. */

import { formatDuration, formatPercent } from '../../lib/cli/format.js'
import { aroundExpertsMs } from '../harness/result-lines.js'
import type { Row } from '../harness/results.js'
import { isExpertSweep } from '../harness/shapes.js'
import { AROUND_TOKENS, MAX_AROUND_SHARE, MAX_AROUND_SINGLE_MS } from './goals.js'
import { caseName, type Verdict } from './verdict.js'

export function judgeStages(rows: readonly Row[]): Verdict[] {
  return rows.flatMap(row => {
    const { phases, numTokens, disturbed } = row
    if (row.device !== 'cpu' || row.load !== 'gate' || !phases || isExpertSweep(row)) return []
    const ms = aroundExpertsMs(phases)
    const share = ms / (ms + phases.experts)
    if (numTokens === 1) {
      return [
        {
          ...{ goal: 'routing, dispatch and combine, T=1', what: caseName(row), disturbed },
          measured: formatDuration(ms),
          needed: `< ${formatDuration(MAX_AROUND_SINGLE_MS)}`,
          holds: ms < MAX_AROUND_SINGLE_MS,
        },
      ]
    }
    if (numTokens < AROUND_TOKENS) return []
    return [
      {
        ...{ goal: 'routing, dispatch and combine of the layer, T≥64', what: caseName(row), disturbed },
        measured: `${formatPercent(share)} (${formatDuration(ms)})`,
        needed: `< ${formatPercent(MAX_AROUND_SHARE)}`,
        holds: share < MAX_AROUND_SHARE,
      },
    ]
  })
}
