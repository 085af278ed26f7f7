/** The report of `run`: its data (what `--json` prints) and its text. */

import type { ActivationsOption } from '../block/activations.js'
import type { ResolvedMoeConfig } from '../block/config.js'
import type { Work } from '../block/cost.js'
import type { DType } from '../block/dtype.js'
import type { LayerWeightFormat } from '../block/weight-format.js'
import { describeLayer, describeWeights } from './describe-layer.js'
import {
  formatByteRate,
  formatBytes,
  formatCount,
  formatDuration,
  formatError,
  formatFlopRate,
  formatFlops,
  formatRatio,
  type Paint,
  plural,
  table,
} from './format.js'
import { loadChart } from './load-chart.js'
import type { CheckResult } from './measure.js'

export interface RunReport {
  checkpoint: string
  layer: number
  device: string
  dtype: DType
  activations: ActivationsOption
  weightFormat: LayerWeightFormat
  config: Readonly<ResolvedMoeConfig>
  /** Of the expert matmuls. */
  kernel: string
  load: { ms: number; bytes: number; hostBytes: number; deviceBytes: number }
  input: { kind: 'random'; seed: number } | { kind: 'file'; file: string }
  numTokens: number
  /** Given for this run; absent: the model's own. */
  topK?: number
  topP?: number
  /** Each timed forward. */
  times: number[]
  medianMs: number
  work: Work
  nonFiniteRows: number[]
  check?: CheckResult
}

/** The text. */
export function renderRun(report: RunReport, paint: Paint): string[] {
  const { config, work, load, numTokens, medianMs } = report
  const name = report.checkpoint.split(/[\\/]/).filter(Boolean).at(-1) ?? report.checkpoint
  const lines = [
    `${paint.bold(name)}  layer ${report.layer}, ${config.family}, ${report.dtype} on ${report.device}`,
    '',
    ...table(
      describeLayer(config).map(([label, value]) => [paint.dim(label), value]),
      'll',
    ),
    '',
  ]
  const budget = [
    ...(report.topK === undefined ? [] : [`top-k ${report.topK}`]),
    ...(report.topP === undefined ? [] : [`top-p ${report.topP}`]),
  ]
  const held =
    load.deviceBytes > 0 ? `${formatBytes(load.deviceBytes)} on the device` : formatBytes(load.hostBytes)
  lines.push(
    ...table(
      [
        [
          paint.dim('loaded'),
          `${formatBytes(load.bytes)} in ${formatDuration(load.ms)} (${formatByteRate(load.bytes, load.ms)}), held in ${held}`,
        ],
        [paint.dim('weights'), describeWeights(report.weightFormat)],
        [paint.dim('input'), describeInput(report)],
        [paint.dim('kernel'), report.kernel],
        [
          paint.dim('forward'),
          `${paint.bold(formatDuration(medianMs))} for ${plural(numTokens, 'token')}${budget.length > 0 ? ` at ${budget.join(', ')}` : ''}` +
            ` (median of ${report.times.length})`,
        ],
        ...(numTokens === 0
          ? []
          : [
              [
                '',
                `${formatCount((numTokens / medianMs) * 1000)} tokens/s · ${formatFlopRate(work.flops, medianMs)} · ` +
                  `${formatByteRate(work.weightBytes, medianMs)} of weights`,
              ],
            ]),
        ...(report.check ? [[paint.dim('check'), describeCheck(report.check, paint)]] : []),
      ],
      'll',
    ),
  )
  if (numTokens === 0) return lines
  lines.push(
    '',
    `Expert load  ${paint.dim(`${formatCount(work.expertTokens.reduce((a, b) => a + b, 0))} token-expert pairs`)}`,
  )
  lines.push(...loadChart(work.expertTokens, paint))
  lines.push('', 'Work saved against dense', ...savedTable(work, paint))
  const bad = report.nonFiniteRows.length
  if (bad > 0) {
    const rows = report.nonFiniteRows.slice(0, 10).join(', ')
    lines.push('', paint.red(`${plural(bad, 'row')} not finite: ${rows}${bad > 10 ? ', …' : ''}`))
  }
  return lines
}

/** FLOPs and weight bytes of the call beside those of a dense layer with all the experts; `more` rows are of other calls. */
export function savedTable(
  work: Work,
  paint: Paint,
  more: readonly [label: string, work: Work][] = [],
): string[] {
  const row = (label: string, ours: number, dense: number, format: (value: number) => string) => [
    paint.dim(label),
    format(ours),
    'of',
    format(dense),
    // A batch that hits every expert reads every weight.
    dense / ours < 1.005 ? 'all of it' : paint.green(`${formatRatio(dense / ours)} less`),
  ]
  return table(
    [
      row('arithmetic', work.flops, work.denseFlops, formatFlops),
      row('weights read', work.weightBytes, work.denseWeightBytes, formatBytes),
      ...more.map(([label, other]) => row(label, other.weightBytes, other.denseWeightBytes, formatBytes)),
    ],
    'lrlrr',
  )
}

function describeInput({ input, config }: RunReport): string {
  const where = input.kind === 'file' ? input.file : `random hidden states, seed ${input.seed}`
  const more = [
    ...(config.hashRouted ? ['random token ids'] : []),
    ...(config.routerInput === 'separate' ? ['a random router input'] : []),
  ]
  return [where, ...more].join(', with ')
}

/** One line: how far from the reference, the bound, on how many rows, and what was left out. */
export function describeCheck(check: CheckResult, paint: Paint): string {
  const rows = `${check.checkedRows === check.numTokens ? 'all' : check.checkedRows} of ${plural(check.numTokens, 'row')}`
  const other = check.rowsWithOtherIds.length
  const ids = other === 0 ? 'expert ids equal' : `other experts in ${plural(other, 'row')}`
  const verdict = check.ok ? paint.green('ok') : paint.red('FAILED')
  const leftOut = [
    ...(check.checkedRows < check.numTokens
      ? [
          `${check.numTokens - check.checkedRows} for the time that the reference takes (every n-th row is compared)`,
        ]
      : []),
    ...(check.nonFiniteRows > 0 ? [`${check.nonFiniteRows} not finite on either side`] : []),
  ]
  return (
    `${verdict}  relative error ${formatError(check.relativeError)} (bound ${formatError(check.bound)}), ${ids}, ` +
    `${rows} against double precision${leftOut.length > 0 ? `; left out: ${leftOut.join(', ')}` : ''}`
  )
}
