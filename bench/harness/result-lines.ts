/** The terminal's table of rows, and the lines about the machine above it. Pure functions of results. */

import { formatBytes, formatDuration, formatNumber, formatPercent } from '../../lib/cli/format.js'
import type { MachineLimits } from './machine.js'
import { isDisturbed } from './other-load.js'
import type { Memory, Overhead, Row } from './results.js'

interface Column {
  head: string
  width: number
  cell(row: Row): string
}

const COLUMNS: readonly Column[] = [
  { head: 'T', width: 5, cell: row => String(row.numTokens) },
  { head: 'median', width: 10, cell: row => formatDuration(row.medianMs) },
  { head: 'p99', width: 10, cell: row => formatDuration(row.p99Ms) },
  { head: 'tokens/s', width: 10, cell: row => formatNumber(row.tokensPerSecond) },
  { head: 'GFLOP/s', width: 9, cell: row => formatNumber(row.gflops) },
  { head: 'GB/s', width: 7, cell: row => formatNumber(row.weightGBs) },
  {
    head: 'roofline',
    width: 10,
    // Without weights to read or multiply there is no roof to speak of.
    cell: row =>
      row.rooflineShare === null || row.flops === 0
        ? '–'
        : `${formatPercent(row.rooflineShare)} ${row.bound === 'memory' ? 'm' : 'c'}`,
  },
  {
    head: 'dense ×',
    width: 9,
    cell: row => (row.dense ? denseText(row.dense) : '–'),
  },
]

/** ~ where other load was there while the dense layer was measured, ≈ where it is scaled from fewer tokens. */
export function denseText({ ratio, how, disturbed }: NonNullable<Row['dense']>): string {
  return `${disturbed ? '~' : ''}${how === 'scaled' ? '≈' : ''}${formatNumber(ratio)}`
}

const LABEL_WIDTH = 48

/** What the columns are, to print once. */
export function tableHead(): string {
  return ''.padEnd(LABEL_WIDTH) + COLUMNS.map(({ head, width }) => head.padStart(width)).join('')
}

export function tableLine(row: Row): string {
  const what = row.what === 'layer' ? row.load : `stage ${row.what}`
  const label = `${row.shape} ${row.device} ${row.dtype} ${row.threads}t ${what}`
  const cells = COLUMNS.map(({ width, cell }) => cell(row).padStart(width)).join('')
  const around = aroundText(row)
  const share =
    row.shareOfLayer === undefined
      ? around && `  around the experts ${around}`
      : `  ${formatPercent(row.shareOfLayer)} of the layer`
  return label.padEnd(LABEL_WIDTH) + cells + share + disturbance(row)
}

/** What a layer spends on anything but its experts, and of all that it does; '' where nobody counted. */
export function aroundText({ phases }: Pick<Row, 'phases'>): string {
  if (!phases) return ''
  const around = aroundExpertsMs(phases)
  return `${formatDuration(around)} (${formatPercent(around / (around + phases.experts))})`
}

export function aroundExpertsMs({ routing, dispatch, combine }: NonNullable<Row['phases']>): number {
  return routing + dispatch + combine
}

export function disturbance(row: Pick<Row, 'disturbed' | 'foreignCores'>): string {
  return row.disturbed ? `  ~ disturbed: ${formatNumber(row.foreignCores ?? 0)} cores of other load` : ''
}

export const LEGEND = [
  'roofline: share of the least time that the limits above allow; m memory-bound, c compute-bound',
  'GB/s: of the distinct weights that the call needed.  dense ×: time of a dense layer of all the experts; ≈ scaled from fewer tokens',
  '~: other load was on the machine in every repeat; no figure to rely on',
].join('\n')

export function machineLines(machine: MachineLimits): string[] {
  const rate = (value: { best: number } | undefined, unit: string) =>
    value === undefined ? `no such unit` : `${formatNumber(value.best)} ${unit}`
  const lines = machine.threads.map(
    ({ threads, readGBs, fmaGflops, bf16Gflops }) =>
      `limits, ${threads} thread${threads === 1 ? '' : 's'}: read ${rate(readGBs, 'GB/s')}, ` +
      `f32 ${rate(fmaGflops, 'GFLOP/s')} (${machine.fmaInstruction ?? 'none'}), ` +
      `bf16 ${rate(bf16Gflops, `GFLOP/s (${machine.bf16Instruction})`)}${bf16Gflops ? '' : ': widened to f32'}`,
  )
  if (!isDisturbed(machine.foreignCores)) return lines
  const load = formatNumber(machine.foreignCores ?? 0)
  return [...lines, `~ limits measured beside ${load} cores of other load: shares of them may be too high`]
}

export function overheadLine(overhead: Overhead): string {
  const { shape, device, dtype, threads, forwardSyncUs, forwardUs } = overhead
  return (
    `${shape} ${device} ${dtype} ${threads}t empty call`.padEnd(LABEL_WIDTH) +
    ` forwardSync ${formatNumber(forwardSyncUs)} µs, forward ${formatNumber(forwardUs)} µs` +
    disturbance(overhead)
  )
}

/** Held over stored, in brackets; '' where an earlier result does not say. */
export function heldText({
  layerBytes,
  copies,
  storedBytes,
}: Pick<Memory, 'layerBytes' | 'copies' | 'storedBytes'>): string {
  return storedBytes === undefined ? '' : ` (${(layerBytes / copies / storedBytes).toFixed(3)} × stored)`
}

export function memoryLine({ shape, device, dtype, threads, copies, ...memory }: Memory): string {
  const layers = copies === 1 ? 'layer' : `${copies} layers`
  return (
    `${shape} ${device} ${dtype} ${threads}t memory`.padEnd(LABEL_WIDTH) +
    ` ${layers} ${formatBytes(memory.layerBytes)}${heldText({ copies, ...memory })}, scratch ${formatBytes(memory.workspaceBytes)}, ` +
    `grown while running ${formatBytes(memory.grownBytes)}, process at most ${formatBytes(memory.peakRssBytes)}`
  )
}
