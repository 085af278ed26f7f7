import { limitsFor, type MachineLimits } from '../../harness/machine.js'
import type { Row } from '../../harness/results.js'
import {
  BASE,
  type Chart,
  decades,
  grid,
  isGateless,
  layerRows,
  mostThreads,
  pointLayers,
  title,
} from './style.js'

/** Reached GFLOP/s over FLOPs per byte of weights, under the roof of memory and arithmetic. */
export function rooflineChart(rows: readonly Row[], machine: MachineLimits): Chart | null {
  const all = layerRows(rows)
  const threads = mostThreads(all)
  const points = all
    .filter(row => row.threads === threads && row.load === (isGateless(row, all) ? 'uniform' : 'gate'))
    .map(({ shape, dtype, numTokens, flops, weightBytes, gflops, disturbed }) => ({
      ...{ shape, dtype, numTokens, gflops, disturbed, intensity: flops / weightBytes },
    }))
  if (points.length === 0) return null
  const lowest = Math.min(...points.map(point => point.intensity)) / 1.5
  const highest = Math.max(...points.map(point => point.intensity)) * 1.5
  const shapes = [...new Set(points.map(point => point.shape))]
  const dtypes = [...new Set(points.map(point => point.dtype))]
  const { columns, axis } = grid(shapes.length)
  const limits = dtypes.flatMap(dtype => {
    const found = limitsFor(machine, dtype, threads)
    return found ? [{ dtype, ...found }] : []
  })
  // Where every dtype is widened to f32 their roofs are one, and no dtype's colour belongs to it.
  const isOneRoof = new Set(limits.map(({ flopsPerSecond }) => flopsPerSecond)).size === 1
  const roofs = shapes.flatMap(shape =>
    (isOneRoof ? limits.slice(0, 1) : limits).flatMap(({ dtype, flopsPerSecond, bytesPerSecond }) => {
      const ridge = flopsPerSecond / bytesPerSecond
      return [lowest, Math.min(Math.max(ridge, lowest), highest), highest].map(intensity => ({
        ...{ shape, dtype, intensity },
        gflops: Math.min(flopsPerSecond, intensity * bytesPerSecond) / 1e9,
      }))
    }),
  )
  const data = [...points, ...roofs.map(roof => ({ ...roof, isRoof: true }))]
  const x = {
    field: 'intensity',
    type: 'quantitative' as const,
    scale: { type: 'log' as const, domain: [lowest, highest], nice: false },
    axis: { title: 'FLOPs per byte of weights', values: decades([lowest, highest]) },
  }
  const y = {
    field: 'gflops',
    type: 'quantitative' as const,
    scale: { type: 'log' as const },
    axis: { title: 'GFLOP/s', values: decades(data.map(datum => datum.gflops)) },
  }
  const color = {
    field: 'dtype',
    type: 'nominal' as const,
    sort: ['f32', 'bf16', 'f16'],
    title: null,
  } as const
  return {
    name: 'cpu-roofline',
    caption: 'Reached FLOP/s per shape, from T = 1 on the left on, under what memory and arithmetic allow',
    spec: {
      ...BASE,
      title: title(
        `Roofline, ${threads} threads`,
        `dashed: measured limits${isOneRoof ? ', the same for all dtypes here' : ''}; points: one call each, T rising to the right`,
      ),
      data: { values: data },
      facet: { field: 'shape', type: 'nominal' as const, sort: shapes },
      columns,
      resolve: { axis },
      spec: {
        width: 220,
        height: 170,
        layer: [
          {
            transform: [{ filter: 'datum.isRoof' }],
            mark: { type: 'line', strokeWidth: 1, strokeDash: [4, 3], color: '#777777' },
            encoding: isOneRoof ? { x, y } : { x, y, color },
          },
          {
            transform: [{ filter: '!datum.isRoof' }],
            mark: { type: 'line', strokeWidth: 1 },
            encoding: { x, y, color, order: { field: 'numTokens', type: 'quantitative' as const } },
          },
          ...pointLayers({ x, y, color }, '!datum.isRoof'),
        ],
      },
    },
  }
}
