/** What a layer spends on anything but its experts: gate, selection, dispatch and combine, called one by one. */

import { formatDuration, formatPercent } from '../../lib/cli/format.js'
import { groupBy } from '../report/tables.js'
import type { Row } from '../results.js'
import { type Bar, caseName } from './bar.js'

const AROUND_EXPERTS = ['gate', 'select_experts', 'dispatch', 'combine']
const MAX_SHARE = 0.04
const LARGE_TOKENS = 64
const MAX_SINGLE_MS = 0.025

/** Each of the four crosses from JavaScript once, which inside a layer happens once for all: the sum is no less than what the layer pays. */
export function judgeStages(rows: readonly Row[]): Bar[] {
  const stages = rows.filter(row => AROUND_EXPERTS.includes(row.what) && row.device === 'cpu')
  const cases = groupBy(stages, row => [row.shape, row.dtype, row.threads, row.numTokens].join(' '))
  return cases.flatMap(([, group]) => {
    const [first] = group
    if (!first || group.length < AROUND_EXPERTS.length) return []
    const what = caseName(first)
    const ms = group.reduce((sum, row) => sum + row.medianMs, 0)
    const disturbed = group.some(row => row.disturbed)
    if (first.numTokens === 1) {
      const needed = `< ${formatDuration(MAX_SINGLE_MS)}`
      const holds = ms < MAX_SINGLE_MS
      return [
        {
          bar: 'routing, dispatch and combine, T=1',
          what,
          measured: formatDuration(ms),
          needed,
          holds,
          disturbed,
        },
      ]
    }
    const share = group.reduce((sum, row) => sum + (row.shareOfLayer ?? Number.NaN), 0)
    if (first.numTokens < LARGE_TOKENS || Number.isNaN(share)) return []
    return [
      {
        ...{ bar: 'routing, dispatch and combine of the layer, T≥64', what, disturbed },
        measured: `${formatPercent(share)} (${formatDuration(ms)})`,
        needed: `< ${formatPercent(MAX_SHARE)}`,
        holds: share < MAX_SHARE,
      },
    ]
  })
}
