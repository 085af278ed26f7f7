/** The loss curves of training: one point per log line for the training loss, one per evaluation for the held-out loss. */

import { readFile } from 'node:fs/promises'
import path from 'node:path'
import { drawChart } from './chart.js'
import { RESULTS_DIRECTORY } from './files.js'

/** A line of train.py's log. */
export interface LogLine {
  step: number
  loss: number
  heldOut?: number
}

/** Logs by model; those that are there. */
export async function readTrainingLogs(directory = RESULTS_DIRECTORY): Promise<Map<string, LogLine[]>> {
  const logs = new Map<string, LogLine[]>()
  for (const name of ['moe', 'dense_active', 'dense_total']) {
    const text = await readFile(path.join(directory, `${name}.jsonl`), 'utf8').catch(error => {
      if ((error as NodeJS.ErrnoException).code === 'ENOENT') return ''
      throw error
    })
    const lines = text
      .split('\n')
      .filter(Boolean)
      .map(line => JSON.parse(line) as LogLine)
    if (lines.length > 0) logs.set(name, lines)
  }
  return logs
}

export function trainingChart(logs: ReadonlyMap<string, readonly LogLine[]>): Promise<string> {
  const values = [...logs].flatMap(([model, lines]) =>
    lines.flatMap(({ step, loss, heldOut }) => [
      { model, step, loss, text: 'training' },
      ...(heldOut === undefined ? [] : [{ model, step, loss: heldOut, text: 'held out' }]),
    ]),
  )
  const x = { field: 'step', type: 'quantitative' as const, title: 'step (4096 bytes each)' }
  const y = {
    field: 'loss',
    type: 'quantitative' as const,
    title: 'loss (nats per byte)',
    // The first steps, from ln 256 = 5.5 down, would flatten the rest.
    scale: { domain: [0.9, 2.2] },
  }
  const color = { field: 'model', type: 'nominal' as const, title: null }
  return drawChart({
    width: 520,
    height: 300,
    data: { values },
    layer: [
      {
        mark: { type: 'line', clip: true },
        encoding: { x, y, color, strokeDash: { field: 'text', type: 'nominal', title: null } },
      },
      // A run that was evaluated once has no line.
      {
        transform: [{ filter: "datum.text === 'held out'" }],
        mark: { type: 'point', size: 20, clip: true },
        encoding: { x, y, color },
      },
    ],
  })
}
