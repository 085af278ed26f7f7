/** How time grows: linear in T·k, flat in E. */

import { formatNumber } from '../../lib/cli/format.js'
import { limitsFor } from '../harness/machine.js'
import { rooflineMs } from '../harness/roofline.js'
import { shapeNamed } from '../harness/shapes.js'
import type { Collected } from './collect.js'
import { MAX_EXPERT_POWER, MIN_LINE_R2 } from './goals.js'
import { growthOverExperts, growthOverTokens } from './growth.js'
import { caseName, type Verdict } from './verdict.js'

export function judgeGrowth({ rows, machine }: Collected): Verdict[] {
  const overTokens = growthOverTokens(rows, shape => shapeNamed(shape)?.config.topK).map(growth => ({
    goal: 'time is a line over T·k, from 64 tokens on',
    what: caseName(growth),
    measured: `R² ${growth.r2.toFixed(4)}, ${formatNumber(growth.perSlotUs)} µs per token and expert`,
    needed: `R² ≥ ${MIN_LINE_R2}`,
    holds: growth.r2 >= MIN_LINE_R2,
    disturbed: growth.disturbed,
  }))
  const leastMs = (row: Collected['rows'][number]) => {
    const limits = machine && limitsFor(machine, row.dtype, row.threads)
    return limits ? rooflineMs(row, limits).ms : Number.NaN
  }
  const overExperts = growthOverExperts(rows, leastMs).map(({ measured, least, ...growth }) => ({
    goal: 'time over the number of experts, beyond those that are hit',
    what: caseName({ ...growth, shape: 'E=8…512' }),
    measured: `E^${measured.toFixed(2)} (experts hit: E^${least.toFixed(2)})`,
    needed: `≤ E^${(Math.max(0, least) + MAX_EXPERT_POWER).toFixed(2)}`,
    holds: measured <= Math.max(0, least) + MAX_EXPERT_POWER,
    disturbed: growth.disturbed,
  }))
  return [...overTokens, ...overExperts]
}
