/** What a load run showed, as lines. */

import { formatDuration } from '../../../../lib/cli/format.js'
import type { LoadFigures } from './run-clients.js'

/** The smallest value that at least the share `q` of `values` does not exceed; NaN of none. */
export function quantile(values: readonly number[], q: number): number {
  const sorted = values.toSorted((a, b) => a - b)
  return sorted[Math.max(0, Math.ceil(q * sorted.length) - 1)] ?? Number.NaN
}

function quantiles(values: readonly number[]): string {
  if (values.length === 0) return 'none'
  return `p50 ${formatDuration(quantile(values, 0.5))}, p99 ${formatDuration(quantile(values, 0.99))}`
}

export function reportLines(figures: LoadFigures): string[] {
  const { ended, hungUp, refused, repeated, failures, elapsedMs } = figures
  const numTokens = ended.reduce((sum, result) => sum + result.numTokens, 0)
  const withText = ended.filter(({ text }) => text !== '')
  return [
    `  streams      ${ended.length} ended, ${hungUp} left by their client, ${refused} refused, ${failures.length} failed`,
    `  tokens/s     ${((1000 * numTokens) / elapsedMs).toFixed(0)}  (${numTokens} in ${formatDuration(elapsedMs)})`,
    `  first token  ${quantiles(withText.map(({ firstMs }) => firstMs))}`,
    `  per token    ${quantiles(ended.flatMap(({ gapsMs }) => gapsMs))}`,
    `  repeated     ${repeated} with the text of an earlier stream of the same request`,
    ...[...new Set(failures)].map(failure => `  failed       ${failure}`),
  ]
}
