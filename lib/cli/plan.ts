/** `sparse-experts plan`: whether the layers of a checkpoint fit into a memory, and what a cache would cost where they do not. */

import { type Checkpoint, openCheckpoint } from '../api/checkpoint.js'
import { DEFAULT_READERS } from '../block/cache-options.js'
import { invalidArgValue } from '../block/errors.js'
import { CACHE_PREFETCHES } from '../block/expert-cache.js'
import { planLayer } from '../checkpoint/plan/layer.js'
import { hostMemory } from '../devices/host-memory.js'
import { readTrace, withExpertBytes } from '../trace/read-trace.js'
import type { Trace } from '../trace/trace.js'
import { choiceOption, integerOption, type OptionTable, optionLines, parseCommandLine } from './arguments.js'
import { UsageError } from './command-error.js'
import type { CommandContext } from './context.js'
import { fitMemory, type MemoryFit } from './fit-memory.js'
import { randomHiddenStates, randomRouting } from './hidden-states.js'
import { type MeasuredRates, measureRates } from './measure-rates.js'
import { type PlanReport, renderPlan } from './plan-report.js'
import { policiesOption, ratesOf, simulateRows } from './simulate-rows.js'
import { parseBytes, parseRate } from './sizes.js'
import { deviceOption, HELD_OPTIONS, heldOptions, MODULE_OPTION } from './source-options.js'

const OPTIONS = {
  memory: {
    type: 'string',
    value: 'SIZE',
    help: 'of the host for all layers, what is no expert and scratch included: 8GiB (default: nine tenths of what is free here)',
  },
  device: { type: 'string', value: 'D', help: 'cpu, cuda or cuda:N (default: cpu)' },
  'device-memory': {
    type: 'string',
    value: 'SIZE',
    help: 'of a GPU, likewise; --memory is then for experts that have no room there (default: nine tenths of what is free there)',
  },
  trace: {
    type: 'string',
    value: 'TRACE',
    help: 'a recording of all layers: how many experts would be found in memory',
  },
  policy: {
    type: 'string',
    value: 'NAMES',
    help: 'of the cache: lru, lfu, lfru, static, and belady, which knows the future (default: lru,belady)',
  },
  'tokens-per-call': {
    type: 'string',
    value: 'N',
    help: 'cut longer calls of the trace into calls of so many tokens (default: as recorded)',
  },
  measure: {
    type: 'boolean',
    help: 'load one layer with the planned share of the cache and time its calls: the rates of this machine and this disk',
  },
  disk: {
    type: 'string',
    value: 'RATE',
    help: 'the rates, instead: bytes of experts read per second, 2.5GB/s',
  },
  experts: {
    type: 'string',
    value: 'RATE',
    help: 'bytes of resident weights per second that the matmuls read, 20GB/s; needed with --disk',
  },
  copy: {
    type: 'string',
    value: 'RATE',
    help: 'bytes per second from the host to a GPU, 25GB/s (default: copies take no time)',
  },
  readers: { type: 'string', value: 'N', help: `reads in flight, 1 to 64 (default: ${DEFAULT_READERS})` },
  prefetch: {
    type: 'string',
    value: 'P',
    help: 'affinity: a call has experts of the next layer read ahead, all in time (default: off)',
  },
  ...{ module: MODULE_OPTION, ...HELD_OPTIONS },
  json: { type: 'boolean', help: 'print one JSON object' },
} as const satisfies OptionTable

export const PLAN_USAGE = `Usage: sparse-experts plan <checkpoint> [options]

Says from headers whether all layers with experts fit into a memory, and where they do not, with which cache of experts they run in it. On a GPU
the cache has its memory, over memory of the host. With a trace it says how many experts such a cache would find, and by rates how long calls
would take; both come from the code that decides in the engine.

Options:
${optionLines(OPTIONS)}
`

/** Of what is free: the rest is for what a program needs beside its layers. */
const DEFAULT_SHARE = 0.9

/** Runs the command; the exit status. */
export async function planCommand(args: string[], context: CommandContext): Promise<number> {
  const { values, positionals } = parseCommandLine(args, OPTIONS, ['checkpoint'])
  const { signal } = context
  const { module } = values
  const memoryBytes = parsedBytes('memory', values.memory)
  const deviceBytes = parsedBytes('device-memory', values['device-memory'])
  const policies = policiesOption(values.policy ?? 'lru,belady')
  const tokensPerCall = integerOption('tokens-per-call', values['tokens-per-call'], 1)
  const readers = integerOption('readers', values.readers, 1, 64) ?? DEFAULT_READERS
  const prefetch = choiceOption('prefetch', values.prefetch, CACHE_PREFETCHES)
  const device = deviceOption(values.device) ?? 'cpu'
  const copy = parseRate('copy', values.copy)
  const given = ratesOf(parseRate('disk', values.disk), parseRate('experts', values.experts), copy)
  if (given && values.measure)
    throw new UsageError(
      'ERR_MOE_UNEXPECTED_ARGUMENT',
      'Both --measure and --disk say what the rates are',
      'Give --measure for those of this machine, or --disk and --experts for those of another.',
    )
  const held = heldOptions(values)

  const source = positionals[0]!
  await using checkpoint = await openCheckpoint(source, { module, signal })
  const ofFree = (freeBytes: number) => Math.floor(DEFAULT_SHARE * freeBytes)
  const hostBytes = memoryBytes ?? ofFree(hostMemory().freeBytes)
  const fit = await fitMemory(
    checkpoint,
    { device, ...held, signal },
    hostBytes,
    freeBytes => deviceBytes ?? ofFree(freeBytes),
  )
  if (fit.place === 'host') refuseOfGpu(values)
  else refuseOfCpu(values)
  const trace =
    values.trace === undefined ? undefined : traceOf(await readTrace(values.trace, { signal }), fit)
  const rates = values.measure
    ? await measured(checkpoint, source, fit, { ...held, module }, readers, signal)
    : given
  const { cached } = fit
  const simulations =
    trace && cached
      ? await simulateRows(
          trace,
          cached.memory,
          policies,
          { readers, prefetch },
          {
            rates: rates && { disk: rates.disk, copy, expert: rates.expert },
            ...{ tokensPerCall, signal },
          },
        )
      : []
  const report: PlanReport = {
    ...{ source: checkpoint.source, modelType: checkpoint.modelType },
    ...{ memoryBytes: hostBytes, place: fit.place, placeBytes: fit.placeBytes },
    expertBytes: fit.layers.reduce((sum, { numExperts, expertBytes }) => sum + numExperts * expertBytes, 0),
    ...{ whole: fit.whole, cached: cached?.plan ?? null },
    options: {
      ...{ device, ...definedOf({ module, ...held }) },
      ...(cached && {
        cache: {
          ...{ ...cached.memory, ...(readers !== DEFAULT_READERS && { readers }) },
          ...((prefetch ?? 'off') !== 'off' && { prefetch }),
        },
      }),
    },
    ...{
      rates: rates ?? null,
      simulations: simulations.map(({ name, simulation }) => ({ name, ...simulation })),
    },
  }
  context.print(
    values.json
      ? [JSON.stringify(report, null, 2)]
      : renderPlan(report, { trace, simulations, policies }, context.paint),
  )
  return 0
}

const parsedBytes = (name: string, text: string | undefined) =>
  text === undefined ? undefined : parseBytes(name, text)

/** @throws {@link UsageError} ERR_MOE_UNEXPECTED_ARGUMENT where an option says something of a GPU */
function refuseOfGpu(values: { 'device-memory'?: string; copy?: string }): void {
  for (const name of ['device-memory', 'copy'] as const)
    if (values[name] !== undefined)
      throw new UsageError(
        'ERR_MOE_UNEXPECTED_ARGUMENT',
        `--${name} says something of a GPU, and the layers would run on cpu`,
        'Give --device cuda too, or leave it out.',
      )
}

/** @throws {@link UsageError} ERR_MOE_UNEXPECTED_ARGUMENT where an option is of cpu alone */
function refuseOfCpu({ measure, prefetch }: { measure?: boolean; prefetch?: string }): void {
  if (measure)
    throw new UsageError(
      'ERR_MOE_UNEXPECTED_ARGUMENT',
      '--measure times calls on cpu',
      'Give --disk, --copy and --experts for a GPU.',
    )
  if (prefetch === 'affinity')
    throw new UsageError(
      'ERR_MOE_UNEXPECTED_ARGUMENT',
      'Experts of a GPU are not read ahead',
      'Leave --prefetch out.',
    )
}

const definedOf = (values: Record<string, unknown>) =>
  Object.fromEntries(Object.entries(values).filter(([, value]) => value !== undefined))

/** The trace, its experts of the size in which the checkpoint's would be held. */
function traceOf(trace: Trace, { whole, layers }: MemoryFit): Trace {
  const text = (list: readonly { layer: number; numExperts: number; topK: number }[]) =>
    list.map(({ layer, numExperts, topK }) => `${layer} (${topK} of ${numExperts})`).join(', ')
  const planned = layers.map((layer, i) => ({ layer: whole.layers[i]!.index, ...layer }))
  if (text(trace.layers) !== text(planned))
    throw invalidArgValue('--trace', `a trace of the layers ${text(planned)}`, text(trace.layers))
  return withExpertBytes(
    trace,
    layers.map(({ expertBytes }) => expertBytes),
  )
}

/** The rates of this machine, of the first layer that a cache leaves experts of in the checkpoint. */
async function measured(
  checkpoint: Checkpoint,
  source: string,
  { layers, whole, cached }: MemoryFit,
  { module, dtype, weights }: ReturnType<typeof heldOptions> & { module?: string },
  readers: number,
  signal: AbortSignal,
): Promise<MeasuredRates | undefined> {
  const first = layers.findIndex(({ numExperts, topK }) => numExperts > topK + 1)
  if (first < 0) return undefined
  const { index } = whole.layers[first]!
  const plan = await planLayer(source, { layer: index, module })
  const rowOf = (seed: number) => ({
    hiddenStates: randomHiddenStates(1, plan.config.hiddenSize, seed),
    options: { ...randomRouting(plan, 1, seed), signal },
  })
  const options = { device: 'cpu', dtype, weights, signal } as const
  return measureRates(
    cache => checkpoint.loadLayer(index, { ...options, cache }),
    layers[first]!,
    rowOf,
    readers,
    (cached?.memory.hostBytes ?? 0) / layers.length,
  )
}
