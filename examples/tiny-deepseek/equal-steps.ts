/** The losses of several runs at the last step that all of them reached and evaluated: those of unequal runs say little side by side. */

import type { LogLine } from './training-chart.js'

export interface EqualSteps {
  step: number
  /** Held out, nats per byte, as trained in single precision; in the order of the names. */
  losses: number[]
}

/** @returns null where a run has no log, none of its evaluations is shared, or all runs end with the shared one */
export function lastEqualStep(
  logs: ReadonlyMap<string, readonly LogLine[]>,
  names: readonly string[],
): EqualSteps | null {
  const evaluations = names.map(
    name =>
      new Map(
        logs.get(name)?.flatMap(({ step, heldOut }) => (heldOut === undefined ? [] : [[step, heldOut]])),
      ),
  )
  const shared = [...(evaluations[0]?.keys() ?? [])].filter(step =>
    evaluations.every(losses => losses.has(step)),
  )
  if (shared.length === 0) return null
  const step = Math.max(...shared)
  if (names.every(name => logs.get(name)!.at(-1)!.step === step)) return null
  return { step, losses: evaluations.map(losses => losses.get(step)!) }
}
