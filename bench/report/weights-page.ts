/** The page docs/performance/weights.md: layers that hold their weights as they are stored, from results alone. */

import { formatBytes, formatDuration, formatNumber, formatPercent } from '../../lib/cli/format.js'
import type { Collected } from '../goals/collect.js'
import { markdownTable, threadsText } from '../harness/tables.js'
import { contextSection, goalsSection, machineSection, notMeasuredSection, peersSection } from './sections.js'

export function weightsPage(collected: Collected): string {
  const sections = [
    '# Weights in stored form',
    [
      'Written by `npm run bench:report` from the files of `bench/results/weights`; do not edit. [How they are made](cpu-method.md#weights-in-stored-form).',
      'Figures of one machine, shared with others: differences below 15 % are ties. What other load disturbed in every repeat is marked `~`:',
      'such times are those of a busy machine, and only ratios of one table mean something. Bytes are not disturbed.',
    ].join('\n'),
    machineSection(collected),
    ['```sh', ...COMMANDS, '```'].join('\n'),
    '`--filter` and `--only` take a part of that, which is what `--help` lists; what these tables lack was not measured.',
    ...memorySection(collected),
    ...speedSection(collected),
    ...peersSection(collected),
    ...contextSection(collected),
    ...goalsSection(collected),
    ...notMeasuredSection(collected),
  ]
  return `${sections.join('\n\n')}\n`
}

const FORMS = 'bf16,q4_0,q4_K,mxfp4,q8_0,fp8'
const COMMANDS = [
  `npm run bench:goals -- --only shares,load,peers,engine --dtype ${FORMS} --out bench/results/weights`,
  'npm run bench:report',
]

function memorySection({ loads }: Collected): string[] {
  if (loads.length === 0) return []
  const table = markdownTable(
    ['layer', 'stored', 'held', 'held ÷ stored', 'peak of loading beyond held', 'load', 'cat'],
    loads.map(row => [
      `${row.shape}, ${row.dtype}`,
      formatBytes(row.weightBytes),
      ...(row.heldBytes === undefined
        ? ['–', '–', '–']
        : [
            formatBytes(row.heldBytes),
            (row.heldBytes / row.weightBytes).toFixed(3),
            formatBytes(Math.max(0, row.peakBytes - row.heldBytes)),
          ]),
      `${row.disturbed ? '~' : ''}${formatDuration(row.loadMs)}`,
      formatDuration(row.catMs),
    ]),
  )
  return [
    '## Memory',
    [
      'One layer read from a file that the page cache holds: GGUF for the types of ggml, safetensors for bf16 and fp8. Held is what the library counts for',
      'the layer, the peak is by how much the process grew during its first load; `cat` reads the same file in turns with it.',
    ].join('\n'),
    table,
  ]
}

function speedSection({ shares }: Collected): string[] {
  if (shares.length === 0) return []
  const table = markdownTable(
    ['layer', 'T', 'median', 'GB/s of weights', 'of the limit', 'rounds', 'bound by'],
    shares.map(row => [
      `${row.shape}, ${row.dtype}, ${threadsText(row.threads)}`,
      String(row.numTokens),
      `${row.disturbed ? '~' : ''}${formatDuration(row.medianMs)}`,
      row.weightGBs === undefined ? '–' : formatNumber(row.weightGBs),
      formatPercent(row.share.median),
      `${formatPercent(row.share.low)}–${formatPercent(row.share.high)}`,
      row.bound === 'memory' ? 'memory' : 'arithmetic',
    ]),
  )
  return [
    '## Beside the limits of the machine',
    [
      'GB/s of the distinct weights that a call needed, as they are held. The limit is the raw read of the same moment, or the peak of the bf16 arithmetic',
      'where that takes longer: both are measured right before and after each block of calls.',
    ].join('\n'),
    table,
  ]
}
