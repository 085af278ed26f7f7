/** `sparse-experts simulate`: what caches of several sizes would do for a recorded routing. */

import { CACHE_POLICIES, CACHE_PREFETCHES, CACHE_SCOPES } from '../block/expert-cache.js'
import { readTrace } from '../trace/read-trace.js'
import type { Trace } from '../trace/trace.js'
import { choiceOption, integerOption, type OptionTable, optionLines, parseCommandLine } from './arguments.js'
import type { CommandContext } from './context.js'
import { expertBytesOf, renderSimulations } from './simulate-report.js'
import { isOwnProfile, policiesOption, ratesOf, type SimulatedRow, simulateRows } from './simulate-rows.js'
import { listOption, parseRate, parseShare } from './sizes.js'

const OPTIONS = {
  cache: {
    type: 'string',
    value: 'SIZES',
    help: 'memory of the experts of all layers: 4GB,8GB or shares of all experts 25%,50% (default: 25%,50%,75%)',
  },
  'host-cache': {
    type: 'string',
    value: 'SIZE',
    help: 'of a GPU, whose memory --cache then is: memory of the host behind it, 32GB or a share of all experts',
  },
  policy: {
    type: 'string',
    value: 'NAMES',
    help: `of ${CACHE_POLICIES.join(', ')}, and belady, which knows the future (default: lru,belady)`,
  },
  scope: {
    type: 'string',
    value: 'S',
    help: 'layer: each has slots of its own; model: they compete (default: layer)',
  },
  profile: {
    type: 'string',
    value: 'TRACE',
    help: 'a trace of other text, whose most chosen experts are there before the first call. Without it static\ntakes those of TRACE itself, on which it looks better than on other text',
  },
  'tokens-per-call': {
    type: 'string',
    value: 'N',
    help: 'cut longer calls into calls of so many tokens, as in generation (default: as recorded)',
  },
  disk: {
    type: 'string',
    value: 'RATE',
    help: 'bytes per second of the disk, 2.5GB/s: times are printed too',
  },
  experts: {
    type: 'string',
    value: 'RATE',
    help: 'bytes of resident weights per second that the matmuls read, 20GB/s; needed with --disk',
  },
  copy: {
    type: 'string',
    value: 'RATE',
    help: 'bytes per second from the host to a GPU, whose memory --cache then is, 25GB/s',
  },
  readers: { type: 'string', value: 'N', help: 'reads in flight (default: 2)' },
  prefetch: {
    type: 'string',
    value: 'P',
    help: 'affinity: a call has experts of the next layer read ahead, all in time (default: off)',
  },
  json: { type: 'boolean', help: 'print one JSON object' },
} as const satisfies OptionTable

export const SIMULATE_USAGE = `Usage: sparse-experts simulate <trace> [options]

Runs the calls of a trace on caches that do not exist, by the policy code of the engine, and shows hits, bytes read and Belady's bound:
the most hits that any policy could have. A trace is a directory that record() of a layer or a model wrote, or one of its files.

Options:
${optionLines(OPTIONS)}
`

/** Runs the command; the exit status. */
export async function simulateCommand(args: string[], context: CommandContext): Promise<number> {
  const { values, positionals } = parseCommandLine(args, OPTIONS, ['trace'])
  const { signal } = context
  const scope = choiceOption('scope', values.scope, CACHE_SCOPES) ?? 'layer'
  const policies = policiesOption(values.policy ?? 'lru,belady')
  const tokensPerCall = integerOption('tokens-per-call', values['tokens-per-call'], 1)
  const readers = integerOption('readers', values.readers, 1)
  const prefetch = choiceOption('prefetch', values.prefetch, CACHE_PREFETCHES)
  const copy = parseRate('copy', values.copy)
  const rates = ratesOf(parseRate('disk', values.disk), parseRate('experts', values.experts), copy)
  const sizes = listOption('cache', values.cache ?? '25%,50%,75%')
  for (const size of sizes) parseShare('cache', size, 1e12)
  const hostSize = values['host-cache']
  if (hostSize !== undefined) parseShare('host-cache', hostSize, 1e12)

  const trace = await readTrace(positionals[0]!, { signal })
  const profile = values.profile === undefined ? undefined : await readTrace(values.profile, { signal })
  const rows: SimulatedRow[] = []
  for (const size of sizes) {
    const bytes = parseShare('cache', size, expertBytesOf(trace))
    const hostBytes =
      hostSize === undefined ? undefined : parseShare('host-cache', hostSize, expertBytesOf(trace))
    const isOfGpu = hostBytes !== undefined || copy !== undefined
    const memory = isOfGpu ? { deviceBytes: bytes, hostBytes } : { hostBytes: bytes }
    const cache = { scope, readers, profile, prefetch }
    rows.push(...(await simulateRows(trace, memory, policies, cache, { rates, tokensPerCall, signal })))
  }
  context.print(
    values.json
      ? [JSON.stringify(jsonOf(trace, rows), null, 2)]
      : renderSimulations(trace, rows, { isOwnProfile: isOwnProfile(policies, profile) }, context.paint),
  )
  return 0
}

function jsonOf(trace: Trace, rows: readonly SimulatedRow[]): object {
  const { layers, numCalls, numRows } = trace
  return {
    trace: { layers, calls: numCalls, rows: numRows, expertBytes: expertBytesOf(trace) },
    // A bound is no policy with times of its own: it is printed as what it bounds.
    simulations: rows.map(({ name, memory, simulation }) => ({ name, ...memory, ...simulation })),
  }
}
