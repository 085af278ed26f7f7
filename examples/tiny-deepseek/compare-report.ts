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
import type { Machine } from './machine.js'
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

export function compareReport(
  { machine, windows, ownWeights, models }: CompareResults,
  paint: Paint,
): string[] {
  return [
    `${paint.bold('Sparse and dense')}  ${paint.dim(`on ${machine.device}, ${machine.dtype}; losses over ${windows} windows of ${WINDOW} bytes`)}`,
    ...table(
      [
        ['', ...models.map(({ model }) => paint.bold(TITLES[model]))],
        ...ROWS.map(([label, cell]) => [paint.dim(label), ...models.map(cell)]),
      ],
      'lrrr',
    ),
    paint.dim(
      '  One sequence, where nothing else is said; time outside of the feed-forwards is plain TypeScript.',
    ),
    ...(ownWeights
      ? []
      : [paint.dim('  Twins without their weights are timed with random ones of the same shapes.')]),
  ]
}
