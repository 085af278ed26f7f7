import type { PeerRow } from '../../peers/peers-results.js'
import { BASE, type Chart, COLOURS, decades, grid, pointLayers, title } from './style.js'

/** How the line of a dtype is dashed. */
const DASHES: Record<string, number[]> = {
  f32: [1, 0],
  bf16: [7, 3],
  f16: [5, 3],
  int8: [2, 3],
  int4: [8, 3, 2, 3],
}

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
  const dtypes = Object.keys(DASHES).filter(dtype => values.some(value => value.dtype === dtype))
  const { columns, axis } = grid(shapes.length, 2)
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
    scale: { domain: dtypes, range: dtypes.map(dtype => DASHES[dtype]) },
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
      columns,
      resolve: { scale: { y: 'independent' }, axis },
      // One legend below the other: beside each other they are wider than the panels.
      config: {
        ...BASE.config,
        legend: { ...BASE.config.legend, layout: { bottom: { direction: 'vertical' } } },
      },
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
