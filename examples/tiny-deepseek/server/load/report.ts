/** What a load run showed, as lines. */

import type { LoadFigures } from './run-clients.js'

/** The smallest value that at least the share `q` of `values` does not exceed; NaN of none. */
export function quantile(values: readonly number[], q: number): number {
  const sorted = values.toSorted((a, b) => a - b)
  return sorted[Math.max(0, Math.ceil(q * sorted.length) - 1)] ?? Number.NaN
}

const duration = (ms: number) => (ms < 999.5 ? `${ms.toPrecision(3)} ms` : `${(ms / 1000).toFixed(2)} s`)

function quantiles(values: readonly number[]): string {
  if (values.length === 0) return 'none'
  return `p50 ${duration(quantile(values, 0.5))}, p99 ${duration(quantile(values, 0.99))}`
}

export function reportLines(figures: LoadFigures): string[] {
  const { ended, hungUp, refused, repeated, failures, elapsedMs } = figures
  const numTokens = ended.reduce((sum, result) => sum + result.numTokens, 0)
  const withText = ended.filter(({ text }) => text !== '')
  return [
    `  streams      ${ended.length} ended, ${hungUp} left by their client, ${refused} refused, ${failures.length} failed`,
    `  tokens/s     ${((1000 * numTokens) / elapsedMs).toFixed(0)}  (${numTokens} in ${duration(elapsedMs)})`,
    `  first token  ${quantiles(withText.map(({ firstMs }) => firstMs))}`,
    `  per token    ${quantiles(ended.flatMap(({ gapsMs }) => gapsMs))}`,
    `  repeated     ${repeated} with the text of an earlier stream of the same request`,
    ...[...new Set(failures)].map(failure => `  failed       ${failure}`),
  ]
}
