/** The page docs/performance/server.md: what calls of many clients gain by running as one, from results alone. */

import { formatDuration, formatNumber } from '../../lib/cli/format.js'
import type { Ratio } from '../harness/rounds.js'
import { groupBy, markdownTable } from '../harness/tables.js'
import { caseText, type ServerResults, type ServerRow } from '../server/server-results.js'
import type { Chart } from './charts/style.js'
import { machineSection } from './sections.js'

/** @param file of the results; `chart` is a picture beside the page */
export function serverPage(
  { file, results }: { file: string; results: ServerResults },
  chart: Chart,
): string {
  const { rounds, seconds, rows } = results
  const sections = [
    '# Many clients of a server',
    [
      'Written by `npm run bench:report` from a file of `bench/results/server`; do not edit. [How it is made](cpu-method.md#many-clients-of-a-server).',
      'What other load disturbed is marked `~`: then only ratios mean something.',
    ].join('\n'),
    machineSection({ newest: results, machine: null, files: [`server/${file}`] }),
    ['```sh', COMMAND, 'npm run bench:report', '```'].join('\n'),
    `![${chart.caption}](${chart.name}.svg)`,
    [
      `Requests of one row each; ${rounds} rounds of ${seconds} s of each server, in turns. A figure is the median of the rounds; in brackets the rounds’ ratios to`,
      'the server whose calls run alone: their median, lowest and highest. Clients and server share the machine, so the layer has what HTTP leaves of it.',
    ].join('\n'),
    ...MODES_TEXT,
    ...groupBy(rows, caseText).map(([name, group]) => `## ${name}\n\n${caseTable(group)}`),
  ]
  return `${sections.join('\n\n')}\n`
}

const COMMAND = 'npm run bench:server -- --json bench/results/server/NAME.json'

const MODES_TEXT = [
  [
    '- *alone*: each call is a forward of its own (`coalesce: false`)',
    '- *batched by the server*: code of the server collects the rows that wait, and makes one call of them',
    '- *as one*: the server calls `forward` for each request and nothing else; the library runs those that wait [as one](../threads.md#waiting-calls-run-as-one)',
  ].join('\n'),
]

const ratioText = ({ median, low, high }: Ratio) =>
  `(${formatNumber(median)}×, ${formatNumber(low)}–${formatNumber(high)})`

function caseTable(rows: readonly ServerRow[]): string {
  return markdownTable(
    ['calls', 'requests/s', 'p50', 'p99', 'rows of a forward'],
    rows.map(row => {
      const isBase = row.mode === 'alone'
      return [
        row.mode,
        `${row.disturbed ? '~' : ''}${formatNumber(row.requestsPerSecond)}${isBase ? '' : ` ${ratioText(row.requestsRatio)}`}`,
        formatDuration(row.p50Ms),
        `${formatDuration(row.p99Ms)}${isBase ? '' : ` ${ratioText(row.p99Ratio)}`}`,
        formatNumber(row.rowsPerForward),
      ]
    }),
  )
}
