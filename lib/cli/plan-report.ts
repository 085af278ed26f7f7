/** What `sparse-experts plan` prints: the data of `--json`, and the text. */

import type { MemoryPlan, ModelPlan } from '../api/model-plan.js'
import type { SimulationRates } from '../trace/call-time.js'
import type { Simulation } from '../trace/simulate.js'
import type { Trace } from '../trace/trace.js'
import { formatByteRate, formatBytes, formatPercent, type Paint, plural, table, wrap } from './format.js'
import type { MeasuredRates } from './measure-rates.js'
import { renderSimulations } from './simulate-report.js'
import { isOwnProfile, type PolicyChoice, type SimulatedRow } from './simulate-rows.js'

export interface PlanReport {
  source: string
  modelType: string
  /** For all layers: given, or free here. */
  memoryBytes: number
  /** Of all experts of all layers. */
  expertBytes: number
  /** With all experts in memory. */
  whole: ModelPlan
  /** With the cache of `options`; null: all experts fit. */
  cached: ModelPlan | null
  /** Of `MoeModel.load`. */
  options: Record<string, unknown> & { cache?: { hostBytes: number; readers?: number } }
  rates: SimulationRates | MeasuredRates | null
  simulations: (Simulation & { name: string })[]
}

/** The report as text. */
export function renderPlan(
  report: PlanReport,
  more: { trace: Trace | undefined; simulations: readonly SimulatedRow[]; policies: readonly PolicyChoice[] },
  paint: Paint,
): string[] {
  const { source, modelType, memoryBytes, whole, cached, rates, options } = report
  const { trace, simulations, policies } = more
  const memory = (plan: ModelPlan) => plan.memory.find(({ memory }) => memory === 'host')!
  const rows = [['all experts in memory', ...cells(memory(whole), memoryBytes, paint)]]
  if (cached) {
    const share = options.cache!.hostBytes / report.expertBytes
    rows.push([`${formatPercent(share)} of the experts`, ...cells(memory(cached), memoryBytes, paint)])
  }
  const chosen = cached ?? whole
  const { neededBytes, freeBytes } = memory(chosen)
  return [
    paint.bold(source),
    `  ${modelType}, ${plural(whole.layers.length, 'layer')} with experts; ${formatBytes(memoryBytes)} of memory`,
    '',
    ...table(rows),
    '',
    'Load them with',
    `  await MoeModel.load(${JSON.stringify(source)}, ${literal(options)})`,
    ...(neededBytes > freeBytes
      ? wrap(`Here ${formatBytes(freeBytes)} are free: ${formatBytes(neededBytes)} do not fit now.`, 100).map(
          line => `  ${paint.yellow(line)}`,
        )
      : []),
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
