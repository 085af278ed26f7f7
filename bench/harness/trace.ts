/**
 * Recorded routings of a trained model as a load: those of examples/tiny-deepseek, replayed on any shape with as many experts and as many
 * per token. A call takes consecutive tokens from a random place of a random layer, as a text would.
 */

import { existsSync } from 'node:fs'
import type { Random } from '../../test/cases/random.js'
import { readTrace, sliceTrace, TRACE_DIRECTORY, type Trace } from '../../test/cases/trace.js'
import type { MoeConfig, RecordedRouting } from './package.js'

export type { Trace }

/** Empty where no trace is present. */
export async function loadTraces(): Promise<readonly Trace[]> {
  return existsSync(TRACE_DIRECTORY) ? readTrace() : []
}

/** @returns undefined where no trace fits the shape */
export function tracedRouting(
  traces: readonly Trace[],
  { numExperts, topK }: Pick<MoeConfig, 'numExperts' | 'topK'>,
  numTokens: number,
  random: Random,
): RecordedRouting | undefined {
  const fitting = traces.filter(trace => trace.numExperts === numExperts && trace.topK === topK)
  if (fitting.length === 0) return undefined
  const trace = fitting[random.integer(fitting.length)]!
  return sliceTrace(trace, random.integer(trace.numTokens), numTokens)
}
