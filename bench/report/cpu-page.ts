/** The page docs/performance/cpu.md: the machine, the tables and the pictures, all from results. */

import { formatBytes, formatDuration, formatNumber, formatPercent } from '../../lib/cli/format.js'
import type { Collected } from '../goals/collect.js'
import { growthOverExperts, growthOverTokens } from '../goals/growth.js'
import { limitsFor } from '../harness/machine.js'
import { aroundText, denseText, heldText } from '../harness/result-lines.js'
import type { Row } from '../harness/results.js'
import { rooflineMs } from '../harness/roofline.js'
import { shapeNamed } from '../harness/shapes.js'
import { groupBy, markdownTable, threadsText } from '../harness/tables.js'
import type { Chart } from './charts/style.js'
import { contextSection, goalsSection, machineSection, notMeasuredSection, peersSection } from './sections.js'
import { glanceTable } from './tables.js'

/** @param charts those that could be drawn, as SVG files beside the page */
export function cpuPage(collected: Collected, charts: readonly Chart[]): string {
  const sections = [
    '# CPU performance',
    [
      'Written by `npm run bench:report` from the files of `bench/results`; do not edit. [How they are made](cpu-method.md). Figures of one',
      'machine, shared with others: differences below 15 % are ties. A cell that other load disturbed in every repeat is marked `~`.',
    ].join('\n'),
    machineSection(collected),
    ...glanceSection(collected),
    ...peersSection(collected),
    ...contextSection(collected),
    ...goalsSection(collected),
    ...charts.map(({ name, caption }) => `![${caption}](${name}.svg)\n\n${caption}.`),
    ...layerSections(collected.rows),
    ...stagesSection(collected.rows),
    ...growthSection(collected.rows),
    ...expertGrowthSection(collected),
    ...contentionSection(collected),
    ...overheadSection(collected),
    ...notMeasuredSection(collected),
  ]
  return `${sections.join('\n\n')}\n`
}

function glanceSection({ rows, peerRows, shares }: Collected): string[] {
  return peerRows.length === 0 ? [] : ['## At a glance', glanceTable(rows, peerRows, shares)]
}

const rowKey = (row: Pick<Row, 'shape' | 'dtype' | 'threads'>) =>
  `${row.shape}, ${row.dtype}, ${threadsText(row.threads)}`

function layerSections(rows: readonly Row[]): string[] {
  const layers = rows.filter(row => row.what === 'layer' && row.device !== 'reference')
  const groups = groupBy(layers, rowKey)
  if (groups.length === 0) return []
  return [
    '## Layers',
    'Roofline: share of the least time that the measured limits allow; m memory-bound, c compute-bound. Around: gate, selection, dispatch and combine by the layer’s own clock, mean, and its share of the layer. Dense: time of a layer of all the experts over this one’s; ≈ scaled from fewer tokens.',
    ...groups.map(([name, group]) => `### ${name}\n\n${layerTable(group)}`),
  ]
}

function layerTable(rows: readonly Row[]): string {
  const sorted = [...rows].sort((a, b) => a.load.localeCompare(b.load) || a.numTokens - b.numTokens)
  return markdownTable(
    ['routing', 'T', 'median', 'p99', 'tokens/s', 'GFLOP/s', 'GB/s', 'roofline', 'around', 'dense ×'],
    sorted.map(row => [
      row.load,
      String(row.numTokens),
      `${row.disturbed ? '~' : ''}${formatDuration(row.medianMs)}`,
      formatDuration(row.p99Ms),
      formatNumber(row.tokensPerSecond),
      formatNumber(row.gflops),
      formatNumber(row.weightGBs),
      row.rooflineShare === null
        ? '–'
        : `${formatPercent(row.rooflineShare)} ${row.bound === 'memory' ? 'm' : 'c'}`,
      aroundText(row) || '–',
      row.dense ? denseText(row.dense) : '–',
    ]),
  )
}

function stagesSection(rows: readonly Row[]): string[] {
  const stages = rows.filter(row => row.what !== 'layer')
  if (stages.length === 0) return []
  const table = markdownTable(
    ['layer', 'T', 'stage', 'median', 'of the layer'],
    stages.map(row => [
      rowKey(row),
      String(row.numTokens),
      row.what,
      `${row.disturbed ? '~' : ''}${formatDuration(row.medianMs)}`,
      row.shareOfLayer === undefined ? '–' : formatPercent(row.shareOfLayer),
    ]),
  )
  return [
    '## Stages',
    'Called one by one over tensors, with weights as stored; a layer packs its own.',
    table,
  ]
}

function growthSection(rows: readonly Row[]): string[] {
  const growth = growthOverTokens(rows, shape => shapeNamed(shape)?.config.topK)
  if (growth.length === 0) return []
  const table = markdownTable(
    ['layer', 'µs per token and expert', 'R²', 'points'],
    growth.map(({ perSlotUs, r2, points, disturbed, ...growth }) => [
      rowKey(growth),
      ...[`${disturbed ? '~' : ''}${formatNumber(perSlotUs)}`, r2.toFixed(4), String(points)],
    ]),
  )
  return ['## Growth over tokens', 'A line through the time over T·k from 64 tokens on.', table]
}

function expertGrowthSection({ rows, machine }: Collected): string[] {
  if (!machine) return []
  const growth = growthOverExperts(rows, row => {
    const limits = limitsFor(machine, row.dtype, row.threads)
    return limits ? rooflineMs(row, limits).ms : Number.NaN
  })
  if (growth.length === 0) return []
  const table = markdownTable(
    ['dtype', 'T', 'measured', 'by the experts hit'],
    growth.map(({ dtype, threads, numTokens, measured, least, disturbed }) => [
      `${dtype}, ${threadsText(threads)}`,
      ...[String(numTokens), `${disturbed ? '~' : ''}${measured.toFixed(2)}`, least.toFixed(2)],
    ]),
  )
  return [
    '## Growth over the number of experts',
    'Time as a power of E at fixed k: 0 is flat, 1 is in proportion. More experts are hit where there are more, up to T·k of them; beside it, what that makes of the least time.',
    table,
  ]
}

function contentionSection({ contention }: Collected): string[] {
  if (contention.length === 0) return []
  const table = markdownTable(
    ['layer', 'T', 'quiet', 'busy', 'ratio', 'rounds'],
    contention.map(({ shape, dtype, numTokens, quietMs, busyMs, ratio, disturbed }) => [
      `${shape}, ${dtype}`,
      String(numTokens),
      formatDuration(quietMs),
      formatDuration(busyMs),
      `${disturbed ? '~' : ''}${formatNumber(ratio.median)}×`,
      `${formatNumber(ratio.low)}–${formatNumber(ratio.high)}`,
    ]),
  )
  return [
    '## Beside a busy loop',
    'All cores for the layer, and on one of them a loop that never sleeps; rounds alternate.',
    table,
  ]
}

function overheadSection({ overheads, memory }: Collected): string[] {
  if (overheads.length === 0) return []
  const table = markdownTable(
    ['layer', 'device', '`forwardSync`', '`forward`', 'layer', 'scratch', 'grown while running'],
    overheads.map(({ shape, dtype, device, threads, forwardSyncUs, forwardUs, disturbed }) => {
      const used = memory.find(
        row => row.shape === shape && row.dtype === dtype && row.device === device && row.threads === threads,
      )
      return [
        `${shape}, ${dtype}, ${threads}t`,
        device,
        `${disturbed ? '~' : ''}${formatNumber(forwardSyncUs)} µs`,
        `${disturbed ? '~' : ''}${formatNumber(forwardUs)} µs`,
        used ? formatBytes(used.layerBytes / used.copies) + heldText(used) : '–',
        used ? formatBytes(used.workspaceBytes) : '–',
        used ? formatBytes(used.grownBytes) : '–',
      ]
    }),
  )
  return ['## Calls without tokens, and memory', table]
}
