/** Simulations that several commands print: one for each policy, and the rates that they are given. */

import { type SimulateOptions, simulate } from '../api/simulate.js'
import { CACHE_POLICIES } from '../block/expert-cache.js'
import type { Simulation } from '../trace/simulate.js'
import type { Trace } from '../trace/trace.js'
import { choiceOption } from './arguments.js'
import { UsageError } from './command-error.js'
import { listOption } from './sizes.js'

/** Of all layers: of the host alone, or of a GPU, with memory of the host behind it. */
export type SimulatedMemory = { hostBytes: number } | { deviceBytes: number; hostBytes?: number }

/** A simulation under the name that it was asked for: of a policy, or 'belady' for the bound in it. */
export interface SimulatedRow {
  name: string
  /** Memory that was asked for. */
  memory: SimulatedMemory
  simulation: Simulation
}

const POLICIES = [...CACHE_POLICIES, 'belady'] as const
export type PolicyChoice = (typeof POLICIES)[number]

/** @throws {@link UsageError} ERR_MOE_INVALID_ARG_VALUE */
export const policiesOption = (text: string): PolicyChoice[] =>
  listOption('policy', text).map(name => choiceOption('policy', name, POLICIES)!)

/** @throws {@link UsageError} ERR_MOE_MISSING_ARGUMENT where only one of the two is given */
export function ratesOf(
  disk: number | undefined,
  expert: number | undefined,
  copy?: number,
): SimulateOptions['rates'] {
  if (disk === undefined && expert === undefined && copy === undefined) return undefined
  if (disk === undefined || expert === undefined)
    throw new UsageError(
      'ERR_MOE_MISSING_ARGUMENT',
      `Missing option --${disk === undefined ? 'disk' : 'experts'}`,
      'Give --disk and --experts together: a time needs both.',
    )
  return { disk, expert, copy }
}

/** Whether `static` takes its set from the very trace that is simulated, on which it looks better than on other text. */
export const isOwnProfile = (policies: readonly PolicyChoice[], profile: Trace | undefined): boolean =>
  !profile && policies.includes('static')

/** A row for each policy. */
export async function simulateRows(
  trace: Trace,
  memory: SimulatedMemory,
  policies: readonly PolicyChoice[],
  cache: Omit<SimulateOptions['cache'], keyof SimulatedMemory | 'deviceBytes' | 'policy' | 'profile'> & {
    profile?: Trace
  },
  options: Omit<SimulateOptions, 'cache'>,
): Promise<SimulatedRow[]> {
  const rows: SimulatedRow[] = []
  for (const name of policies) {
    const policy = name === 'belady' ? 'lru' : name
    const profile = cache.profile ?? (policy === 'static' ? trace : undefined)
    const simulation = await simulate(trace, { ...options, cache: { ...cache, ...memory, policy, profile } })
    rows.push({ name, memory, simulation })
  }
  return rows
}
