/** Sets results beside earlier ones: rows by name, as ratios of tokens per second. Pure. */

import { formatRatio } from '../../lib/cli/format.js'
import { cellKey, type Results, type Row } from '../harness/results.js'

/** On a shared machine less than this is no difference. */
export const TIE = 0.15

export interface Comparison {
  key: string
  /** New over old tokens per second: above 1 is faster. */
  ratio: number
  verdict: 'faster' | 'slower' | 'tie' | 'disturbed'
}

export function compareResults(now: Results, before: Results): Comparison[] {
  const old = new Map(before.rows.map(row => [cellKey(row), row]))
  return now.rows.flatMap(row => {
    const match = old.get(cellKey(row))
    return match ? [compareRows(row, match)] : []
  })
}

function compareRows(now: Row, before: Row): Comparison {
  const ratio = before.medianMs / now.medianMs
  const isTie = ratio < 1 + TIE && ratio > 1 / (1 + TIE)
  const verdict =
    now.disturbed || before.disturbed ? 'disturbed' : isTie ? 'tie' : ratio > 1 ? 'faster' : 'slower'
  return { key: cellKey(now), ratio, verdict }
}

/** Geometric mean of the ratios of undisturbed rows; null without any. */
export function meanRatio(comparisons: readonly Comparison[]): number | null {
  const clean = comparisons.filter(({ verdict }) => verdict !== 'disturbed')
  if (clean.length === 0) return null
  return Math.exp(clean.reduce((sum, { ratio }) => sum + Math.log(ratio), 0) / clean.length)
}

export function comparisonLines(comparisons: readonly Comparison[], before: Results): string[] {
  if (comparisons.length === 0) return ['No cell of the earlier results was measured again.']
  const mean = meanRatio(comparisons)
  return [
    `Against ${before.date} (${before.revision.slice(0, 12) || 'no revision'}), tokens/s now over then; within ${TIE * 100} % is a tie:`,
    ...comparisons.map(
      ({ key, ratio, verdict }) => `  ${formatRatio(ratio).padStart(7)}  ${verdict.padEnd(9)}  ${key}`,
    ),
    mean === null
      ? '  all disturbed'
      : `  ${formatRatio(mean).padStart(7)}  geometric mean of the undisturbed`,
  ]
}
