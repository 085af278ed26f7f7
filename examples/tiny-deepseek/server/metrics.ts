/** The body of `/metrics`: the figures of all layers, as the library has them, and those of the batching above them. */

import { metrics } from 'sparse-experts'
import type { Decoder } from '../decoder/decoder.js'
import type { Scheduler, SchedulerFigures } from './scheduler.js'

const FIGURES: readonly (readonly [
  keyof SchedulerFigures,
  'gauge' | 'counter',
  name: string,
  help: string,
])[] = [
  ['running', 'gauge', 'running', 'Completions that have a place in the batch'],
  ['waiting', 'gauge', 'waiting', 'Completions that wait for a place'],
  ['finished', 'counter', 'finished_total', 'Completions that were written to their end'],
  ['failed', 'counter', 'failed_total', 'Completions that ended with an error'],
  ['cancelled', 'counter', 'cancelled_total', 'Completions whose client went away'],
  ['refused', 'counter', 'refused_total', 'Completions that found the waiting line full'],
  ['steps', 'counter', 'steps_total', 'Calls of the decoder'],
  ['rows', 'counter', 'rows_total', 'Rows of all calls, those of prompts among them'],
  ['tokens', 'counter', 'tokens_total', 'Tokens that were written'],
]

export function renderMetrics(decoder: Decoder, scheduler: Scheduler): string {
  const layers = Object.fromEntries(decoder.feedForwards.map((layer, index) => [`decoder.${index}`, layer]))
  const { figures } = scheduler
  const own = FIGURES.map(
    ([figure, type, name, help]) =>
      `# HELP completions_${name} ${help}\n# TYPE completions_${name} ${type}\ncompletions_${name} ${figures[figure]}\n`,
  )
  return metrics(layers) + own.join('')
}
