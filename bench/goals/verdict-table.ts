/** Verdicts as lines for a terminal and as a table for the page. Pure. */

import { table } from '../../lib/cli/format.js'
import { groupBy, markdownTable } from '../harness/tables.js'
import type { Verdict } from './verdict.js'

const verdictOf = ({ holds, disturbed }: Verdict) =>
  `${holds ? 'holds' : 'DOES NOT HOLD'}${disturbed ? ' ~' : ''}`

export function verdictLines(verdicts: readonly Verdict[]): string[] {
  return groupBy(verdicts, ({ goal }) => goal).flatMap(([goal, cases]) => [
    `\n${goal}`,
    ...table(cases.map(one => [verdictOf(one), one.what, one.measured, one.needed])),
  ])
}

/** How many hold, and how many verdicts say nothing because of other load. */
export function verdictSummary(verdicts: readonly Verdict[]): string {
  const held = verdicts.filter(({ holds }) => holds).length
  const disturbed = verdicts.filter(verdict => verdict.disturbed).length
  return `${held} of ${verdicts.length} hold${disturbed ? `; ${disturbed} were measured beside other load (~)` : ''}`
}

export function verdictTable(verdicts: readonly Verdict[]): string {
  return markdownTable(
    ['goal', 'case', 'measured', 'needed', ''],
    verdicts.map(one => [
      ...[one.goal, one.what, one.measured, one.needed],
      `${one.holds ? 'holds' : '**does not**'}${one.disturbed ? ' ~' : ''}`,
    ]),
  )
}
