/** What `npm run bench:peers` leaves behind, and its table. */

import { formatDuration, formatError, formatNumber, formatPercent } from '../../lib/cli/format.js'
import type { Environment, MachineLimits } from '../harness/machine.js'
import type { Ratio } from '../harness/rounds.js'

export interface PeerRow {
  shape: string
  numTokens: number
  threads: number
  /** Those that are measured against each other: f32, bf16, int8, int4, activations; quantized in earlier results. */
  group: string
  peer: string
  dtype: string
  medianMs: number
  tokensPerSecond: number
  /** Their time over ours of the same run; in a group's own dtype (quantized: in bf16). 1 for ourselves. */
  ratio: Ratio
  /** ‖theirs − ours‖ / ‖ours‖ on one input, ours in f32. */
  outputError: number
  foreignCores: number | null
  disturbed: boolean
}

/** A whole-model engine: what one of its layers takes, attention included. */
export interface ContextRow {
  shape: string
  numTokens: number
  threads: number
  peer: string
  dtype: string
  layerMs: number
  /** Its time over that of our layer of the same file, which has no attention. */
  ratio: Ratio
  /** Of the weights that a token meets in its layer, those that our layer has too. */
  expertShare: number
  foreignCores: number | null
  disturbed: boolean
}

export interface PeerResults {
  benchmark: 'sparse-experts peers'
  date: string
  revision: string
  environment: Environment
  machine: MachineLimits | null
  versions: Record<string, string>
  rows: PeerRow[]
  contexts: ContextRow[]
  notMeasured: { what: string; reason: string }[]
}

export function peerLine(row: PeerRow): string {
  const { low, high, median } = row.ratio
  const isOurs = low === 1 && high === 1
  return (
    `${row.shape.padEnd(18)}${String(row.numTokens).padStart(5)}  ${row.peer.padEnd(35)}${row.dtype.padEnd(5)}` +
    `${formatDuration(row.medianMs).padStart(10)}${formatNumber(row.tokensPerSecond).padStart(10)}` +
    `${isOurs ? '' : `${formatNumber(median)}×`.padStart(9)}` +
    `${isOurs ? '' : `  ${formatNumber(low)}–${formatNumber(high)}`.padEnd(16)}` +
    `${formatError(row.outputError).padStart(isOurs ? 34 : 9)}` +
    (row.disturbed ? `  ~ ${formatNumber(row.foreignCores ?? 0)} cores of other load` : '')
  )
}

export function contextLine(row: ContextRow): string {
  return (
    `${row.shape.padEnd(18)}${String(row.numTokens).padStart(5)}  ${row.peer.padEnd(35)}${row.dtype.padEnd(6)}` +
    `${formatDuration(row.layerMs).padStart(10)} per layer with attention, ${formatNumber(row.ratio.median)}× ours; experts are ${formatPercent(row.expertShare)} of its weights` +
    (row.disturbed ? `  ~ ${formatNumber(row.foreignCores ?? 0)} cores of other load` : '')
  )
}

export const PEER_HEAD =
  `${'shape'.padEnd(18)}${'T'.padStart(5)}  ${'peer'.padEnd(40)}${'median'.padStart(10)}${'tokens/s'.padStart(10)}` +
  `${'÷ ours'.padStart(9)}${'  rounds'.padEnd(16)}${'error'.padStart(9)}`
