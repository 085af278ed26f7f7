/** The command line of `npm run bench:goals`. */

import { matching, numbers, parseValues, UsageError, words } from '../harness/command-line.js'
import { WEIGHT_KINDS, type WeightKind } from '../harness/weight-kinds.js'
import { GOAL_SHAPES } from './goal-shapes.js'

/** What is measured, each in a process of its own. */
export const PARTS = ['shares', 'load', 'peers', 'engine', 'contention', 'cells', 'sweep'] as const
export type Part = (typeof PARTS)[number]

const SHAPES = GOAL_SHAPES.map(({ name }) => name)

export const GOALS_USAGE = `npm run bench:goals -- [options]: is the CPU backend as fast as this project asks of it?
  --from DIR      judges the newest results of a folder instead of measuring
  --out DIR       keeps the results there (default: nowhere)
  --only A,B      ${PARTS.join(', ')} (default: all)
  --filter A,B    ${SHAPES.join(', ')} (default: all)
  --dtype A,B     f32, bf16, f16, or what the weights are stored in: q4_0, q4_K, mxfp4, q8_0, fp8 (default: all)
  --threads A,B   of the shares of the limits, and of the whole-model engine (default: all cores, and 1)
  --rounds N      of interleaved measurements (default: 5)
  --retries N     repeats when other load disturbed them (default: 1)
  --json FILE     writes the verdicts
  --quick         the small shape, once: does it run?`

export interface GoalsOptions {
  /** Names of shapes. */
  shapes: string[]
  dtypes: WeightKind[]
  /** 0: all cores. */
  threads: number[]
  parts: Part[]
  rounds: number
  retries: number
  from?: string
  json?: string
  out?: string
  quick: boolean
}

/** @throws UsageError for a word that means nothing */
export function parseGoalsOptions(args: readonly string[]): GoalsOptions {
  const names = ['from', 'out', 'only', 'filter', 'dtype', 'threads', 'rounds', 'retries', 'json'] as const
  const values = parseValues(args, names)
  const { quick, from, out, json } = values
  if (from !== undefined && out !== undefined)
    throw new UsageError('--from measures nothing that --out could keep')
  return {
    shapes: matching(values.filter ?? (quick ? 'small' : ''), SHAPES),
    dtypes: words('dtype', values.dtype, WEIGHT_KINDS) ?? [...WEIGHT_KINDS],
    threads: numbers('threads', values.threads, 0) ?? (quick ? [0] : [0, 1]),
    parts: words('only', values.only, PARTS) ?? [...PARTS],
    rounds: numbers('rounds', values.rounds, 1)?.[0] ?? (quick ? 1 : 5),
    retries: numbers('retries', values.retries, 0)?.[0] ?? (quick ? 0 : 1),
    ...{ from, out, json, quick },
  }
}
