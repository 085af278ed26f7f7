import { formatNumber } from '../../../lib/cli/format.js'
import { MODES } from '../../server/modes.js'
import { caseText, type ServerRow } from '../../server/server-results.js'
import { BASE, type Chart, COLOURS, title } from './style.js'

const FIGURES = ['requests a second', 'p50, ms', 'p99, ms'] as const

/** Requests a second and latency of each way to run a server's calls: a column for each case, a bar for each way. */
export function serverChart(rows: readonly ServerRow[]): Chart {
  const values = rows.flatMap(row =>
    [row.requestsPerSecond, row.p50Ms, row.p99Ms].map((value, i) => ({
      ...{ panel: caseText(row), figure: FIGURES[i]!, mode: row.mode, value },
      label: `${row.disturbed ? '~' : ''}${formatNumber(value)}`,
    })),
  )
  const x = {
    field: 'value',
    type: 'quantitative' as const,
    axis: { title: null, tickCount: 4 },
    // Room for the figure at the end of the longest bar.
    scale: { zero: true, padding: 34 },
  }
  const y = {
    field: 'mode',
    type: 'nominal' as const,
    sort: MODES,
    axis: { title: null, ticks: false, domain: false },
  }
  const color = {
    field: 'mode',
    type: 'nominal' as const,
    sort: MODES,
    scale: { domain: MODES, range: COLOURS.slice(0, MODES.length) },
    legend: null,
  }
  return {
    name: 'server',
    caption:
      'Requests a second and their latency, by how the server runs the calls of its clients; those that wait run as one by default',
    spec: {
      ...BASE,
      title: title(
        'A server’s requests, of one row each',
        'more requests and less time are better; clients and server share the machine; ~ disturbed by other load',
      ),
      data: { values },
      facet: {
        row: { field: 'figure', type: 'nominal' as const, sort: FIGURES },
        column: {
          field: 'panel',
          type: 'nominal' as const,
          sort: [...new Set(values.map(({ panel }) => panel))],
        },
      },
      resolve: { scale: { x: 'independent' } },
      spec: {
        width: 240,
        height: { step: 24 },
        layer: [
          { mark: { type: 'bar', height: { band: 0.7 } }, encoding: { x, y, color } },
          {
            mark: { type: 'text', align: 'left', dx: 4, fontSize: 11 },
            encoding: { x, y, text: { field: 'label', type: 'nominal' as const } },
          },
        ],
      },
    },
  }
}
