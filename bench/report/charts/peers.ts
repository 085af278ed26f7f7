import type { PeerRow } from '../../peers/peers-results.js'
import { BASE, type Chart, COLOURS, decades, pointLayers, title } from './style.js'

/** Peers stand in several groups; a line is drawn from the one of its own arithmetic. */
const isOwnGroup = ({ group, dtype, peer }: PeerRow) =>
  group === dtype || (group === 'quantized' && peer !== 'sparse-experts')

/** Milliseconds of a call over its tokens, beside the peers; with the most threads that were measured. */
export function peersChart(rows: readonly PeerRow[]): Chart | null {
  if (rows.length === 0) return null
  const threads = Math.max(...rows.map(row => row.threads))
  const values = rows
    .filter(row => row.threads === threads && isOwnGroup(row))
    .map(({ shape, numTokens, peer, dtype, medianMs, disturbed }) => ({
      ...{ shape, numTokens, medianMs, disturbed, dtype, peer: peer.replace(/ Q?MoE$/, '') },
    }))
  const shapes = [...new Set(values.map(value => value.shape))]
  const x = {
    field: 'numTokens',
    type: 'quantitative' as const,
    scale: { type: 'log' as const, base: 2, nice: false, padding: 12 },
    axis: { title: 'tokens of a call', values: [...new Set(values.map(value => value.numTokens))] },
  }
  const y = {
    field: 'medianMs',
    type: 'quantitative' as const,
    scale: { type: 'log' as const },
    axis: { title: 'ms', values: decades(values.map(value => value.medianMs)) },
  }
  const names = [...new Set(values.map(value => value.peer))]
  const color = {
    field: 'peer',
    type: 'nominal' as const,
    title: null,
    sort: names,
    scale: { domain: names, range: COLOURS },
    legend: { orient: 'bottom' as const, labelLimit: 0 },
  }
  const strokeDash = {
    field: 'dtype',
    type: 'nominal' as const,
    title: null,
    scale: {
      domain: ['f32', 'bf16', 'int8', 'int4'],
      range: [
        [1, 0],
        [7, 3],
        [2, 3],
        [8, 3, 2, 3],
      ],
    },
    legend: { orient: 'bottom' as const, symbolSize: 600, columnPadding: 24 },
  }
  return {
    name: 'cpu-peers',
    caption: 'Median time of a call; all peers of one panel in one run, interleaved',
    spec: {
      ...BASE,
      title: title(`Time of a layer, ${threads} threads`, 'lower is faster; hollow: disturbed by other load'),
      data: { values },
      facet: { field: 'shape', type: 'nominal' as const, sort: shapes },
      columns: 2,
      resolve: { scale: { y: 'independent' } },
      spec: {
        width: 300,
        height: 220,
        layer: [
          { mark: { type: 'line', strokeWidth: 1.5 }, encoding: { x, y, color, strokeDash } },
          ...pointLayers({ x, y, color, detail: { field: 'dtype' } }),
        ],
      },
    },
  }
}
