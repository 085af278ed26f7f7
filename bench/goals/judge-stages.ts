/** What a layer spends on anything but its experts: gate, selection, dispatch and combine, by its own clock. */

import { formatDuration, formatPercent } from '../../lib/cli/format.js'
import { aroundExpertsMs } from '../harness/result-lines.js'
import type { Row } from '../harness/results.js'
import { isExpertSweep } from '../report/charts/style.js'
import { type Bar, caseName } from './goal.js'

const MAX_SHARE = 0.04
const LARGE_TOKENS = 64
const MAX_SINGLE_MS = 0.025

export function judgeStages(rows: readonly Row[]): Bar[] {
  return rows.flatMap(row => {
    const { phases, numTokens, disturbed } = row
    if (row.device !== 'cpu' || row.load !== 'gate' || !phases || isExpertSweep(row)) return []
    const ms = aroundExpertsMs(phases)
    const share = ms / (ms + phases.experts)
    if (numTokens === 1) {
      return [
        {
          ...{ bar: 'routing, dispatch and combine, T=1', what: caseName(row), disturbed },
          measured: formatDuration(ms),
          needed: `< ${formatDuration(MAX_SINGLE_MS)}`,
          holds: ms < MAX_SINGLE_MS,
        },
      ]
    }
    if (numTokens < LARGE_TOKENS) return []
    return [
      {
        ...{ bar: 'routing, dispatch and combine of the layer, T≥64', what: caseName(row), disturbed },
        measured: `${formatPercent(share)} (${formatDuration(ms)})`,
        needed: `< ${formatPercent(MAX_SHARE)}`,
        holds: share < MAX_SHARE,
      },
    ]
  })
}
