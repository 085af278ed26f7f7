/** The table of the model in its quantised forms, as lines of text. */

import { formatBytes, formatDuration, formatPercent, type Paint, table } from '../../lib/cli/format.js'
import { WINDOW } from './decoder/index.js'
import { loadNote, type Machine, machineText } from './machine.js'
import type { TimeFigures } from './measure-models.js'
import { isBlockType, type TinyForm } from './quantise/forms.js'

export interface FormFigures {
  form: TinyForm
  /** Held-out, nats per byte. */
  loss: number
  /** Of all feed-forwards: matrices, routers, small tensors. */
  heldBytes: number
  /** Weights that a single token reads in them. */
  tokenBytes: number
  time: TimeFigures
}

export interface QuantisedResults {
  machine: Machine
  windows: number
  forms: FormFigures[]
}

const nameOf = (form: TinyForm) =>
  isBlockType(form) ? `${form}, GGUF` : form === 'bf16' ? form : `${form}, while loading`

export function quantisedReport({ machine, windows, forms }: QuantisedResults, paint: Paint): string[] {
  const first = forms[0]!
  const rows = forms.map(({ form, loss, heldBytes, tokenBytes, time }) => {
    const more = loss - first.loss
    return [
      nameOf(form),
      loss.toFixed(4),
      form === first.form ? '' : `${more < 0 ? '−' : '+'}${Math.abs(more).toFixed(4)}`,
      formatBytes(heldBytes),
      formatPercent(heldBytes / first.heldBytes),
      formatBytes(tokenBytes),
      formatDuration(time.feedForwardMs),
      formatDuration(time.batchFeedForwardMs),
    ]
  })
  const head = ['', 'held-out loss', '', 'held', '', 'weights/token', 'time/token', `of ${WINDOW} at once`]
  return [
    `${paint.bold('Quantised feed-forwards')}  ${paint.dim(`on ${machineText(machine)}; losses over ${windows} windows of ${WINDOW} bytes`)}`,
    ...table([head.map(paint.dim), ...rows], 'lrrrrrrr'),
    paint.dim(
      '  Bytes and times of all feed-forwards; multiplied in bf16. In GGUF files the experts’ down matrices stay in bf16:',
    ),
    paint.dim(
      '  their rows of 56 are no whole blocks. Q8_0 and Q4_0 by the package’s quantize, the other types by a search of this example.',
    ),
    ...loadNote(machine).map(paint.dim),
  ]
}
