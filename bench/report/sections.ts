/** Sections that several pages have: the machine, peers, goals, what was not measured. */

import { formatDuration, formatNumber, formatPercent } from '../../lib/cli/format.js'
import type { Collected } from '../goals/collect.js'
import { judge } from '../goals/judge.js'
import { verdictSummary, verdictTable } from '../goals/verdict-table.js'
import { machineLines } from '../harness/result-lines.js'
import { markdownTable, threadsText } from '../harness/tables.js'
import { peersTable } from './tables.js'

/** @throws without results */
export function machineSection({
  newest,
  machine,
  files,
}: Pick<Collected, 'machine' | 'files'> & {
  newest?: Pick<NonNullable<Collected['newest']>, 'environment' | 'date' | 'revision'>
}): string {
  if (!newest) throw new Error('there are no results')
  const { cpu, architecture, cores, memoryBytes, lastLevelCacheBytes, node } = newest.environment
  return [
    `- ${cpu} (${architecture}), ${cores} cores, last-level cache ${lastLevelCacheBytes / 2 ** 20} MiB, ${formatNumber(memoryBytes / 2 ** 30)} GiB; Node ${node}`,
    ...(machine ? machineLines(machine).map(line => `- ${line}`) : []),
    `- ${newest.date.slice(0, 10)}, revision ${newest.revision || 'unknown'}`,
    `- results: ${files.map(file => `\`${file}\``).join(', ')}`,
  ].join('\n')
}

export function peersSection(collected: Collected): string[] {
  if (collected.peerRows.length === 0) return []
  // Of results from before layers held codes.
  const hasOldGroup = collected.peerRows.some(({ group }) => group === 'quantized')
  const versions = Object.entries(collected.versions).map(([name, version]) => `${name} ${version}`)
  return [
    '## Beside what a Node user could take instead',
    [
      `${versions.join(', ')}. One run, interleaved, same weights and inputs; \`forward\` and \`session.run\` as a server calls them. In brackets: their time over ours,`,
      'the median of the rounds’ ratios, so above 1 this package is faster. Beside ours in bf16 stands also what has no bf16 and would be taken in f32.' +
        (hasOldGroup ? ' Quantized peers stand beside ours in bf16; they read fewer bytes.' : ''),
    ].join('\n'),
    ...peersTable(collected.peerRows),
  ]
}

export function contextSection({ contexts, versions }: Collected): string[] {
  if (contexts.length === 0) return []
  const table = markdownTable(
    ['layer', 'T', 'time per layer', 'over ours', 'experts of its weights', 'their part over ours'],
    contexts.map(row => [
      `${row.shape}, ${row.dtype}, ${threadsText(row.threads)}`,
      String(row.numTokens),
      `${row.disturbed ? '~' : ''}${formatDuration(row.layerMs)}`,
      `${formatNumber(row.ratio.median)}×`,
      formatPercent(row.expertShare),
      `${formatNumber(row.ratio.median * row.expertShare)}×`,
    ]),
  )
  return [
    '## Beside an engine that owns the whole model',
    [
      `node-llama-cpp ${versions['node-llama-cpp'] ?? ''}, random weights of an architecture with the same routing rule: half of what three layers take more than one. Attention is in`,
      'it, and its inputs are not ours; a column says which share of the weights that a token meets in its layer ours has too, the last one what',
      'that share of its time is over ours.',
    ].join('\n'),
    table,
  ]
}

export function goalsSection(collected: Collected): string[] {
  const verdicts = judge(collected)
  if (verdicts.length === 0) return []
  return [
    '## What this project asks of the CPU backend',
    `\`npm run bench:goals\` measures and judges; [goals](../goals.md) says what each means. ${verdictSummary(verdicts)}.`,
    verdictTable(verdicts),
  ]
}

export function notMeasuredSection({ notMeasured }: Collected): string[] {
  const lines = [...new Set(notMeasured.map(({ what, reason }) => `- ${what}: ${reason}`))]
  return lines.length === 0 ? [] : ['## Not measured', lines.join('\n')]
}
