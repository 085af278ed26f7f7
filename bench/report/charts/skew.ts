import { limitsFor, type MachineLimits } from '../../harness/machine.js'
import type { Row } from '../../harness/results.js'
import { rooflineMs } from '../../harness/roofline.js'
import { BASE, type Chart, grid, layerRows, mostThreads, pointLayers, title } from './style.js'

const LOAD_NAMES: Record<string, string> = {
  uniform: 'uniform',
  zipf: 'Zipf',
  same_experts: 'all on k',
  traced: 'traced',
}

/** Time of skewed calls over that of uniform ones, beside what their bytes and FLOPs say. */
export function skewChart(rows: readonly Row[], machine: MachineLimits): Chart | null {
  const all = layerRows(rows)
  const threads = mostThreads(all)
  const replayed = all.filter(row => row.threads === threads && LOAD_NAMES[row.load] !== undefined)
  const values = replayed.flatMap(row => {
    const same = (other: Row) =>
      other.load === 'uniform' &&
      other.shape === row.shape &&
      other.dtype === row.dtype &&
      other.numTokens === row.numTokens
    const uniform = replayed.find(same)
    const limits = limitsFor(machine, row.dtype, row.threads)
    if (!uniform || !limits || row.load === 'uniform') return []
    const shared = {
      panel: `${row.shape}, ${row.dtype}`,
      numTokens: row.numTokens,
      load: LOAD_NAMES[row.load],
    }
    return [
      {
        ...shared,
        isLimit: false,
        ratio: row.medianMs / uniform.medianMs,
        disturbed: row.disturbed || uniform.disturbed,
      },
      {
        ...shared,
        isLimit: true,
        ratio: rooflineMs(row, limits).ms / rooflineMs(uniform, limits).ms,
        disturbed: false,
      },
    ]
  })
  if (values.length === 0) return null
  const panels = [...new Set(values.map(value => value.panel))]
  const { columns, axis } = grid(panels.length)
  const encoding = {
    x: {
      field: 'numTokens',
      type: 'quantitative' as const,
      scale: { type: 'log' as const, base: 2, nice: false, padding: 12 },
      axis: { title: 'tokens of a call', values: [...new Set(values.map(value => value.numTokens))] },
    },
    y: { field: 'ratio', type: 'quantitative' as const, axis: { title: '÷ uniform', tickCount: 5 } },
    color: {
      field: 'load',
      type: 'nominal' as const,
      sort: Object.values(LOAD_NAMES),
      title: null,
    },
  }
  return {
    name: 'cpu-skew',
    caption:
      'Cost of skew: time over that of uniform routing. Fewer distinct experts are fewer bytes, so 1 is no lower limit for memory-bound calls',
    spec: {
      ...BASE,
      title: title(
        'Skewed routing',
        'time ÷ time under uniform routing; dashed: what bytes and FLOPs make of it; hollow: disturbed by other load',
      ),
      data: { values },
      // One panel for each pair that was measured: a grid of rows and columns has empty ones.
      facet: { field: 'panel', type: 'nominal' as const, sort: panels },
      columns,
      resolve: { axis },
      spec: {
        width: 240,
        height: 150,
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
