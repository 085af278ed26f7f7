/** The tables of the compute budget, as lines of text. */

import {
  formatBytes,
  formatCount,
  formatDuration,
  formatFlops,
  formatNumber,
  formatPercent,
  type Paint,
  table,
} from '../../lib/cli/format.js'
import { WINDOW } from './decoder/index.js'
import { loadNote, type Machine, machineText } from './machine.js'
import type { BudgetFigures } from './measure-budgets.js'
import type { ComputeBudgetFigures } from './measure-compute-budget.js'
import type { SampleFigures } from './parallel-samples.js'

/** All that the command measures. */
export interface ComputeBudgetResults {
  machine: Machine
  windows: number
  steps: number
  numExperts: number
  /** The layer as trained first. */
  computeBudgets: ComputeBudgetFigures[]
  samples: SampleFigures[]
  budgets: BudgetFigures[]
}

export function computeBudgetReport(results: ComputeBudgetResults, paint: Paint): string[] {
  return [
    ...computeBudgetTable(results, paint),
    '',
    ...samplesTable(results, paint),
    '',
    ...budgetsTable(results, paint),
  ]
}

/** What each setting costs and saves. */
function computeBudgetTable(
  { machine, windows, computeBudgets }: ComputeBudgetResults,
  paint: Paint,
): string[] {
  const [full] = computeBudgets
  return [
    `${paint.bold('Compute budget')}  ${paint.dim(`${formatCount(windows * WINDOW)} held-out bytes on ${machineText(machine)}`)}`,
    ...table(
      [
        ['', 'experts', 'held-out loss', '', 'FLOPs/token', '', 'weights/token', 'feed-forwards'].map(
          paint.dim,
        ),
        ...computeBudgets.map(row => [
          row.setting,
          row.expertsPerToken.toFixed(2),
          row.heldOutLoss.toFixed(4),
          row === full ? '' : `+${(row.heldOutLoss - full!.heldOutLoss).toFixed(4)}`.replace('+-', '−'),
          formatFlops(row.flopsPerToken),
          formatPercent(row.flopsPerToken / full!.flopsPerToken),
          formatBytes(row.weightBytesPerToken),
          formatDuration(row.feedForwardMs),
        ]),
      ],
      'lrrrrrrr',
    ),
    paint.dim(
      '  FLOPs and bytes of the sparse layers; bytes and time (of all feed-forwards) of single tokens',
    ),
    ...loadNote(machine).map(paint.dim),
  ]
}

function samplesTable({ samples, steps, numExperts }: ComputeBudgetResults, paint: Paint): string[] {
  return [
    `${paint.bold('N samples of one prompt')}  ${paint.dim(`${steps} steps at temperature 1; experts of ${numExperts}, mean over steps and layers`)}`,
    ...table(
      [
        ['samples', 'distinct experts', 'uniform routing', 'weights/step', 'weights/token'].map(paint.dim),
        ...samples.map(row => [
          String(row.numSamples),
          row.distinctExperts.toFixed(1),
          row.uniformExperts.toFixed(1),
          formatBytes(row.weightBytesPerStep),
          formatBytes(row.weightBytesPerToken),
        ]),
      ],
      'rrrrr',
    ),
  ]
}

function budgetsTable({ budgets }: ComputeBudgetResults, paint: Paint): string[] {
  return [
    `${paint.bold('Budgets')}  ${paint.dim(`requests of one batch, the same ${WINDOW} bytes each; topK per row from what is left of a budget`)}`,
    ...table(
      [
        ['budget', '', 'spent', 'experts', 'share of weights read', 'loss'].map(paint.dim),
        ...budgets.map(row => [
          formatFlops(row.budget),
          formatPercent(row.share),
          formatPercent(row.spent / row.budget),
          formatNumber(row.expertsPerToken),
          formatBytes(row.weightBytes),
          row.loss.toFixed(3),
        ]),
      ],
      'rrrrrr',
    ),
  ]
}
