/** The bars as lines for a terminal and as a table for the page. Pure. */

import { table } from '../../lib/cli/format.js'
import { groupBy, markdownTable } from '../report/tables.js'
import type { Bar } from './goal.js'

const verdictOf = ({ holds, disturbed }: Bar) =>
  `${holds ? 'holds' : 'DOES NOT HOLD'}${disturbed ? ' ~' : ''}`

export function barLines(bars: readonly Bar[]): string[] {
  return groupBy(bars, ({ bar }) => bar).flatMap(([bar, cases]) => [
    `\n${bar}`,
    ...table(cases.map(one => [verdictOf(one), one.what, one.measured, one.needed])),
  ])
}

/** How many hold, and how many verdicts say nothing because of other load. */
export function barSummary(bars: readonly Bar[]): string {
  const held = bars.filter(({ holds }) => holds).length
  const disturbed = bars.filter(bar => bar.disturbed).length
  return `${held} of ${bars.length} hold${disturbed ? `; ${disturbed} were measured beside other load (~)` : ''}`
}

export function barTable(bars: readonly Bar[]): string {
  return markdownTable(
    ['bar', 'case', 'measured', 'needed', ''],
    bars.map(one => [
      ...[one.bar, one.what, one.measured, one.needed],
      `${one.holds ? 'holds' : '**does not**'}${one.disturbed ? ' ~' : ''}`,
    ]),
  )
}
