/** The table of the sparse model and its twins, as lines of text. */

import {
  formatBytes,
  formatCount,
  formatDuration,
  formatFlops,
  type Paint,
  table,
} from '../../lib/cli/format.js'
import { type TokenCosts, WINDOW } from './decoder/index.js'
import type { EqualSteps } from './equal-steps.js'
import { loadNote, type Machine, machineText } from './machine.js'
import type { TimeFigures } from './measure-models.js'
import type { TwinName } from './twins.js'

export interface ModelFigures {
  model: 'moe' | TwinName
  parameters: number
  /** null: not trained. */
  steps: number | null
  /** Nats per byte; null: not trained. */
  heldOutLoss: number | null
  lossFrom: 'measured' | 'recorded' | null
  feedForward: TokenCosts
  whole: TokenCosts
  time: TimeFigures
}

export interface CompareResults {
  machine: Machine
  windows: number
  /** Whether all models ran on their own weights. */
  ownWeights: boolean
  /** null: all were trained equally long, or not all were trained. */
  equalSteps: EqualSteps | null
  models: ModelFigures[]
}

const TITLES = {
  moe: 'sparse (MoE)',
  dense_active: 'dense, same active size',
  dense_total: 'dense, same total size',
}

function lossText({ heldOutLoss: loss, lossFrom }: ModelFigures): string {
  return loss === null ? 'not trained' : `${loss.toFixed(4)}${lossFrom === 'recorded' ? ' (recorded)' : ''}`
}

const ROWS: readonly [label: string, cell: (figures: ModelFigures) => string][] = [
  ['parameters', ({ parameters }) => formatCount(parameters)],
  ['training steps', ({ steps }) => (steps === null ? 'not trained' : formatCount(steps))],
  ['held-out loss (nats per byte)', lossText],
  ['FLOPs per token, feed-forwards', row => formatFlops(row.feedForward.flops)],
  ['FLOPs per token, whole model', row => formatFlops(row.whole.flops)],
  ['weight bytes per token, feed-forwards', row => formatBytes(row.feedForward.weightBytes)],
  ['weight bytes per token, whole model', row => formatBytes(row.whole.weightBytes)],
  ['time per token, feed-forwards', row => formatDuration(row.time.feedForwardMs)],
  [`the same, ${WINDOW} tokens at once`, row => formatDuration(row.time.batchFeedForwardMs)],
  ['time per token, whole model', row => formatDuration(row.time.totalMs)],
  ['joules per token', ({ time }) => (time.joules === null ? 'not measured' : time.joules.toPrecision(3))],
]

function equalStepsRow({ step, losses }: EqualSteps, paint: Paint): string[] {
  return [
    paint.dim(`held-out loss after ${formatCount(step)} steps each`),
    ...losses.map(loss => loss.toFixed(4)),
  ]
}

export function compareReport(
  { machine, windows, ownWeights, equalSteps, models }: CompareResults,
  paint: Paint,
): string[] {
  return [
    `${paint.bold('Sparse and dense')}  ${paint.dim(`on ${machineText(machine)}; losses over ${windows} windows of ${WINDOW} bytes`)}`,
    ...table(
      [
        ['', ...models.map(({ model }) => paint.bold(TITLES[model]))],
        ...ROWS.flatMap(([label, cell]) => [
          ...(cell === lossText && equalSteps ? [equalStepsRow(equalSteps, paint)] : []),
          [paint.dim(label), ...models.map(cell)],
        ]),
      ],
      'lrrr',
    ),
    paint.dim(
      '  One sequence, where nothing else is said; time outside of the feed-forwards is plain TypeScript.',
    ),
    ...loadNote(machine).map(paint.dim),
    ...(equalSteps
      ? [
          paint.dim(
            `  Not all were trained to the end: only the losses after ${formatCount(equalSteps.step)} steps can be compared.`,
          ),
        ]
      : []),
    ...(ownWeights
      ? []
      : [paint.dim('  Twins without their weights are timed with random ones of the same shapes.')]),
  ]
}
