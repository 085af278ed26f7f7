/**
 * `npm run bench`: layers and stages over the published shapes, each figure beside what the machine allows. Steps: measure the machine,
 * make each layer, time its cells, measure the machine again, print and write. `npm run bench -- --help` lists the options.
 */

import { runCommand } from '../harness/command-line.js'
import { bestOf, environment, machineMeasurement, QUICK_MEASURE_MS } from '../harness/machine.js'
import { devices } from '../harness/package.js'
import { showProgress } from '../harness/progress.js'
import {
  LEGEND,
  machineLines,
  memoryLine,
  overheadLine,
  tableHead,
  tableLine,
} from '../harness/result-lines.js'
import { type Results, type Row, readResults, revision, writeResults } from '../harness/results.js'
import { withLimits } from '../harness/roofline.js'
import { loadTraces } from '../harness/trace.js'
import { groupsOf } from './cell-groups.js'
import { compareResults, comparisonLines } from './earlier-results.js'
import { measureLayers } from './layer-cells.js'
import { type BenchOptions, parseOptions, USAGE } from './layer-options.js'
import { measureStages } from './stage-cells.js'

async function main(options: BenchOptions): Promise<void> {
  // Read first: a wrong file must not cost a whole run.
  const before = options.compare === undefined ? null : readResults(options.compare)
  const results: Results = {
    benchmark: 'sparse-experts',
    date: new Date().toISOString(),
    revision: revision(),
    environment: environment(),
    machine: null,
    rows: [],
    overheads: [],
    memory: [],
    notMeasured: [],
  }
  const { cpu, architecture, cores, lastLevelCacheBytes } = results.environment
  console.log(
    `${cpu} (${architecture}), ${cores} cores, last-level cache ${lastLevelCacheBytes / 2 ** 20} MiB`,
  )
  const measure = machineMeasurement(
    [1, cores, ...options.threads.filter(Boolean)],
    options.quick ? { milliseconds: QUICK_MEASURE_MS, retries: 0 } : {},
  )
  results.machine = measure()
  if (results.machine) console.log(machineLines(results.machine).join('\n'))

  const traces = await loadTraces()
  const served = servedDevices(options, results)
  const groups = groupsOf(options, served, cores, traces)
  const total = groups.reduce((sum, group) => sum + group.layerCells.length + 6 * group.stageTokens.length, 0)
  console.log(`\n${LEGEND}\n\n${tableHead()}`)
  const progress = showProgress(total)
  const onRow = (row: Row) => {
    results.rows.push(row)
    progress.line(tableLine(row))
  }
  const common = {
    ...{ ...options, machine: results.machine, cacheBytes: lastLevelCacheBytes, traces },
    ...{ onRow, onCell: progress.next },
  }
  for (const group of groups) {
    const name = `${group.shape.name} ${group.device} ${group.dtype} ${group.threads}t`
    const layers = await measureLayers(group, common)
    if ('reason' in layers) {
      results.notMeasured.push({ what: name, reason: layers.reason })
      progress.line(`${name}: not measured (${layers.reason})`)
      continue
    }
    results.overheads.push(layers.overhead)
    results.memory.push(layers.memory)
    progress.line(overheadLine(layers.overhead))
    if (group.stageTokens.length === 0) continue
    const layerMs = (numTokens: number) =>
      results.rows.find(
        row =>
          row.what === 'layer' &&
          row.load === 'gate' &&
          row.numTokens === numTokens &&
          row.threads === group.threads &&
          row.shape === group.shape.name &&
          row.dtype === group.dtype &&
          row.device === group.device,
      )?.medianMs
    const refused = await measureStages(group, { ...common, layerMs })
    if (refused) results.notMeasured.push({ what: `${name} stages`, reason: refused.reason })
    if (refused) progress.line(`${name} stages: not measured (${refused.reason})`)
  }
  progress.stop()

  const after = results.machine && measure()
  if (results.machine && after) {
    results.machine = bestOf(results.machine, after)
    results.rows = results.rows.map(row => withLimits(row, results.machine!))
    console.log(`\nwith the better of the measurements before and after:`)
    console.log(machineLines(results.machine).join('\n'))
  }
  for (const memory of results.memory) console.log(memoryLine(memory))
  const disturbed = results.rows.filter(row => row.disturbed).length
  if (disturbed > 0) console.log(`${disturbed} of ${results.rows.length} cells were disturbed by other load`)
  if (before) console.log(`\n${comparisonLines(compareResults(results, before), before).join('\n')}`)
  if (options.json !== undefined) writeResults(options.json, results)
}

function servedDevices(options: BenchOptions, results: Results): string[] {
  const wanted = (id: string) => options.devices.includes(id.split(':')[0]!)
  const known = devices().filter(device => wanted(device.id))
  for (const { id, reason } of known.filter(device => !device.available)) {
    const why = reason?.split('\n')[0] ?? 'unavailable'
    results.notMeasured.push({ what: id, reason: why })
    console.log(`${id}: not measured (${why})`)
  }
  return known.filter(device => device.available).map(device => device.id)
}

await runCommand(USAGE, args => main(parseOptions(args)))
