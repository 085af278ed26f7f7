import { limitsFor, type MachineLimits } from '../../harness/machine.js'
import type { Row } from '../../harness/results.js'
import { rooflineMs } from '../../harness/roofline.js'
import { isExpertSweep } from '../../harness/shapes.js'
import { BASE, type Chart, decades, grid, pointLayers, title, tokensColour } from './style.js'

/** Time over the number of experts at fixed k: sparse layers must not pay for experts that nobody chose. */
export function expertsChart(rows: readonly Row[], machine: MachineLimits): Chart | null {
  const sweep = rows.filter(
    row => row.what === 'layer' && row.device === 'cpu' && row.load === 'gate' && isExpertSweep(row),
  )
  if (sweep.length === 0) return null
  const values = sweep.flatMap(row => {
    const limits = limitsFor(machine, row.dtype, row.threads)
    const shared = {
      dtype: row.dtype,
      numExperts: Number(row.shape.slice(1)),
      tokens: `T = ${row.numTokens}`,
      order: row.numTokens,
    }
    return [
      { ...shared, disturbed: row.disturbed, ms: row.medianMs, isLimit: false },
      ...(limits ? [{ ...shared, disturbed: false, ms: rooflineMs(row, limits).ms, isLimit: true }] : []),
    ]
  })
  const tokens = [...new Set([...values].sort((a, b) => a.order - b.order).map(value => value.tokens))]
  const { columns, axis } = grid(new Set(values.map(value => value.dtype)).size)
  const encoding = {
    x: {
      field: 'numExperts',
      type: 'quantitative' as const,
      scale: { type: 'log' as const, base: 2, nice: false, padding: 12 },
      axis: { title: 'experts', values: [...new Set(values.map(value => value.numExperts))] },
    },
    y: {
      field: 'ms',
      type: 'quantitative' as const,
      scale: { type: 'log' as const },
      axis: { title: 'ms', values: decades(values.map(value => value.ms)) },
    },
    color: tokensColour(tokens),
  }
  return {
    name: 'cpu-experts',
    caption:
      'Time over the number of experts at fixed k: it follows the bytes of the experts that were hit, not E',
    spec: {
      ...BASE,
      title: title(
        'Over the number of experts, k fixed',
        'points: measured; dashed: the least that the limits allow for the experts hit',
      ),
      data: { values },
      facet: { field: 'dtype', type: 'nominal' as const, sort: ['f32', 'bf16', 'f16'] },
      columns,
      resolve: { axis },
      spec: {
        width: 240,
        height: 200,
        layer: [
          {
            transform: [{ filter: 'datum.isLimit' }],
            mark: { type: 'line', strokeDash: [4, 3], strokeWidth: 1 },
            encoding,
          },
          { transform: [{ filter: '!datum.isLimit' }], mark: { type: 'line', strokeWidth: 1.5 }, encoding },
          ...pointLayers(encoding, '!datum.isLimit'),
        ],
      },
    },
  }
}
