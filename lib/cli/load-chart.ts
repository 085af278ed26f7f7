/** How the tokens of a call spread over the experts: figures and a bar chart. */

import { bar, formatCount, type Paint, padStart, plural } from './format.js'

/** Figures of one expert load. */
export interface LoadSummary {
  numExperts: number
  /** Experts that got a token. */
  active: number
  /** Sum over experts: numTokens * topK less what was dropped. */
  assignments: number
  min: number
  median: number
  max: number
  /** mean / max over all experts: 1 is perfectly even, 1/numExperts all on one expert; 0 without tokens. */
  balancedness: number
}

/** The median of numbers, the mean of the middle two where their count is even; NaN of none. */
export function median(values: ArrayLike<number>): number {
  const sorted = Float64Array.from(values).sort()
  const middle = sorted.length >> 1
  return sorted.length % 2 === 1 ? sorted[middle]! : (sorted[middle - 1]! + sorted[middle]!) / 2
}

/** Summarises `expertTokens` `[numExperts]`. */
export function summarizeLoad(expertTokens: ArrayLike<number>): LoadSummary {
  const numExperts = expertTokens.length
  let [active, assignments, min, max] = [0, 0, Number.POSITIVE_INFINITY, 0]
  for (let expert = 0; expert < numExperts; expert++) {
    const count = expertTokens[expert]!
    if (count > 0) active++
    assignments += count
    min = Math.min(min, count)
    max = Math.max(max, count)
  }
  const balancedness = max === 0 ? 0 : assignments / numExperts / max
  return { numExperts, active, assignments, min, median: median(expertTokens), max, balancedness }
}

/** Expert ids by falling token count, ties by rising id. */
export function busiestExperts(expertTokens: ArrayLike<number>): number[] {
  return Array.from({ length: expertTokens.length }, (_, expert) => expert).sort(
    (a, b) => expertTokens[b]! - expertTokens[a]! || a - b,
  )
}

/** The chart: a bar for each of the busiest experts, one for the median, and the figures. */
export function loadChart(
  expertTokens: ArrayLike<number>,
  paint: Paint,
  options: { top?: number; width?: number } = {},
): string[] {
  const { top = 8, width = 40 } = options
  const load = summarizeLoad(expertTokens)
  if (load.assignments === 0) return ['  no expert got a token']
  const shown = busiestExperts(expertTokens)
    .slice(0, top)
    .filter(expert => expertTokens[expert]! > 0)
  const labelWidth = Math.max(6, `#${load.numExperts - 1}`.length)
  const countWidth = Math.max(formatCount(load.max).length, 3)
  const middle = load.median % 1 === 0 ? formatCount(load.median) : load.median.toFixed(1)
  const row = (label: string, count: string, filled: string) =>
    `  ${padStart(label, labelWidth)} ${padStart(count, countWidth)}  ${filled}`
  const lines = shown.map(expert => {
    const count = expertTokens[expert]!
    return row(`#${expert}`, formatCount(count), paint.cyan(bar(count, load.max, width)))
  })
  const rest = load.active - shown.length
  if (rest > 0) lines.push(row('median', middle, paint.dim(bar(load.median, load.max, width))))
  lines.push(
    paint.dim(
      `  ${load.active} of ${plural(load.numExperts, 'expert')} active · tokens per expert: ` +
        `min ${formatCount(load.min)}, median ${middle}, max ${formatCount(load.max)} · ` +
        `balancedness ${load.balancedness.toFixed(2)} (mean/max)`,
    ),
  )
  return lines
}
