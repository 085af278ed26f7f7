/** What `sparse-experts plan` prints: the data of `--json`, and the text. */

import type { MemoryPlan, ModelPlan } from '../api/model-plan.js'
import type { SimulationRates } from '../trace/call-time.js'
import type { Simulation } from '../trace/simulate.js'
import type { Trace } from '../trace/trace.js'
import { memoryOf } from './fit-memory.js'
import { formatByteRate, formatBytes, formatPercent, type Paint, plural, table, wrap } from './format.js'
import type { MeasuredRates } from './measure-rates.js'
import { renderSimulations } from './simulate-report.js'
import { isOwnProfile, type PolicyChoice, type SimulatedMemory, type SimulatedRow } from './simulate-rows.js'

export interface PlanReport {
  source: string
  modelType: string
  /** Of the host, for all layers: given, or free here. */
  memoryBytes: number
  /** Where experts are computed: 'host', or a device with memory of its own; and what it has for all layers. */
  place: string
  placeBytes: number
  /** Of all experts of all layers. */
  expertBytes: number
  /** With all experts in memory. */
  whole: ModelPlan
  /** With the cache of `options`; null: all experts fit. */
  cached: ModelPlan | null
  /** Of `MoeModel.load`. */
  options: Record<string, unknown> & { cache?: SimulatedMemory & { readers?: number } }
  rates: SimulationRates | MeasuredRates | null
  simulations: (Simulation & { name: string })[]
}

/** The report as text. */
export function renderPlan(
  report: PlanReport,
  more: { trace: Trace | undefined; simulations: readonly SimulatedRow[]; policies: readonly PolicyChoice[] },
  paint: Paint,
): string[] {
  const { source, modelType, memoryBytes, place, placeBytes, whole, cached, rates, options } = report
  const { trace, simulations, policies } = more
  const isHost = place === 'host'
  const rows = [whole, cached].flatMap(plan => (plan ? memoryRows(report, plan, paint) : []))
  const short = (cached ?? whole).memory.filter(({ fits }) => !fits)
  const ofHost = `${formatBytes(memoryBytes)} of memory`
  return [
    paint.bold(source),
    `  ${modelType}, ${plural(whole.layers.length, 'layer')} with experts; ${isHost ? ofHost : `${formatBytes(placeBytes)} of ${place}, ${ofHost}`}`,
    '',
    ...table(rows),
    '',
    'Load them with',
    `  await MoeModel.load(${JSON.stringify(source)}, ${literal(options)})`,
    ...short.flatMap(({ memory, neededBytes, freeBytes }) => {
      const where = memory === 'host' ? '' : ` on ${memory}`
      const text = `Here ${formatBytes(freeBytes)} are free${where}: ${formatBytes(neededBytes)} do not fit now.`
      return wrap(text, 100).map(line => `  ${paint.yellow(line)}`)
    }),
    ...(rates ? ['', ratesLine(rates)] : []),
    ...(trace && simulations.length > 0
      ? [
          '',
          ...renderSimulations(
            trace,
            simulations,
            { isOwnProfile: isOwnProfile(policies, undefined) },
            paint,
          ),
        ]
      : []),
    ...(trace && simulations.length === 0
      ? ['', 'Every expert that a call needs is in memory: there is nothing to simulate.']
      : []),
  ]
}

/** What a plan takes of the memory where experts are computed, and of the host behind it. */
function memoryRows(report: PlanReport, plan: ModelPlan, paint: Paint): string[][] {
  const { place, placeBytes, memoryBytes, expertBytes, whole, options } = report
  const isWhole = plan === whole
  const { deviceBytes = 0, hostBytes = 0 }: { deviceBytes?: number; hostBytes?: number } = options.cache ?? {}
  const share = (bytes: number) => `${formatPercent(bytes / expertBytes)} of the experts`
  if (place === 'host')
    return [
      [
        isWhole ? 'all experts in memory' : share(hostBytes),
        ...cells(memoryOf(plan, 'host'), memoryBytes, paint),
      ],
    ]
  return [
    [
      `${isWhole ? 'all experts' : share(deviceBytes)} on ${place}`,
      ...cells(memoryOf(plan, place), placeBytes, paint),
    ],
    [
      isWhole ? 'the host beside them' : `${share(hostBytes)} in the host's memory`,
      ...cells(memoryOf(plan, 'host'), memoryBytes, paint),
    ],
  ]
}

function cells({ neededBytes, ...parts }: MemoryPlan, memoryBytes: number, paint: Paint): string[] {
  return [
    formatBytes(neededBytes),
    `weights ${formatBytes(parts.weightBytes)}, workspace ${formatBytes(parts.workspaceBytes)}, loading ${formatBytes(parts.loadingBytes)}`,
    neededBytes <= memoryBytes ? paint.green('fits') : paint.red('does not fit'),
  ]
}

function ratesLine(rates: SimulationRates | MeasuredRates): string {
  const figures = `${formatByteRate(rates.disk, 1000)} of experts from the checkpoint`
  if (!('reads' in rates)) return `By the rates given: ${figures}`
  const through = rates.directIo ? '' : ', through the page cache'
  return (
    `Measured by ${plural(rates.calls, 'call')} and ${plural(rates.reads, 'read')}: ${figures}${through}, ` +
    `${formatByteRate(rates.expert, 1000)} of resident ones (--disk ${Math.round(rates.disk)} --experts ${Math.round(rates.expert)})`
  )
}

/** Options as one writes them. */
function literal(value: unknown): string {
  if (typeof value !== 'object' || value === null)
    return typeof value === 'string' ? `'${value}'` : String(value)
  return `{ ${Object.entries(value)
    .map(([name, field]) => `${name}: ${literal(field)}`)
    .join(', ')} }`
}
