import type { Row } from '../../harness/results.js'
import { BASE, type Chart, grid, layerRows, pointLayers, title, tokensColour } from './style.js'

/** Speed-up over one thread. */
export function threadsChart(rows: readonly Row[]): Chart | null {
  const all = layerRows(rows).filter(row => row.load === 'gate')
  const values = all.flatMap(row => {
    const single = all.find(
      other =>
        other.threads === 1 &&
        other.shape === row.shape &&
        other.dtype === row.dtype &&
        other.numTokens === row.numTokens,
    )
    if (!single) return []
    const { shape, dtype, threads } = row
    const disturbed = row.disturbed || single.disturbed
    return [
      {
        panel: `${shape}, ${dtype}`,
        threads,
        disturbed,
        tokens: `T = ${row.numTokens}`,
        order: row.numTokens,
        speedup: single.medianMs / row.medianMs,
      },
    ]
  })
  if (new Set(values.map(value => value.threads)).size < 2) return null
  const tokens = [...new Set([...values].sort((a, b) => a.order - b.order).map(value => value.tokens))]
  const threads = [...new Set(values.map(value => value.threads))]
  const panels = [...new Set(values.map(value => value.panel))]
  const { columns, axis } = grid(panels.length)
  const x = {
    field: 'threads',
    type: 'quantitative' as const,
    axis: { title: 'threads', values: threads, format: 'd' },
    scale: { domain: [Math.min(...threads), Math.max(...threads)], padding: 14, nice: false },
  }
  const color = tokensColour(tokens)
  return {
    name: 'cpu-threads',
    caption: 'Speed-up over one thread; memory-bound calls end at what the threads gain in bandwidth',
    spec: {
      ...BASE,
      title: title(
        'Scaling over threads',
        'time with 1 thread ÷ time with N; grey: as many times as threads',
      ),
      data: { values },
      // One panel for each pair that was measured: a grid of rows and columns has empty ones.
      facet: { field: 'panel', type: 'nominal' as const, sort: panels },
      columns,
      resolve: { axis },
      spec: {
        width: 180,
        height: 150,
        layer: [
          {
            mark: { type: 'line', color: '#bbbbbb', strokeDash: [4, 3] },
            encoding: { x, y: { field: 'threads', type: 'quantitative' as const } },
          },
          {
            mark: { type: 'line', strokeWidth: 1.5 },
            encoding: {
              x,
              y: {
                field: 'speedup',
                type: 'quantitative' as const,
                axis: { title: 'speed-up', tickCount: 5 },
                scale: { zero: true },
              },
              color,
            },
          },
          ...pointLayers({
            x,
            y: { field: 'speedup', type: 'quantitative' as const },
            color,
          }),
        ],
      },
    },
  }
}
