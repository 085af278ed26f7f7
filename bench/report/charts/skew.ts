import { limitsFor, type MachineLimits } from '../../machine.js'
import type { Row } from '../../results.js'
import { rooflineMs } from '../../roofline.js'
import { BASE, type Chart, layerRows, mostThreads, title } from './style.js'

const LOAD_NAMES: Record<string, string> = {
  uniform: 'uniform',
  zipf: 'Zipf',
  same_experts: 'all on k',
  traced: 'traced',
}

const LEAST = 'by bytes and FLOPs'

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
      shape: row.shape,
      panel: `${row.dtype}, T = ${row.numTokens}`,
      order: row.numTokens,
      load: LOAD_NAMES[row.load],
    }
    return [
      {
        ...shared,
        kind: 'measured',
        ratio: row.medianMs / uniform.medianMs,
        disturbed: row.disturbed || uniform.disturbed,
      },
      {
        ...shared,
        kind: LEAST,
        ratio: rooflineMs(row, limits).ms / rooflineMs(uniform, limits).ms,
        disturbed: false,
      },
    ]
  })
  if (values.length === 0) return null
  const panels = [...new Set([...values].sort((a, b) => a.order - b.order).map(value => value.panel))]
  return {
    name: 'cpu-skew',
    caption:
      'Cost of skew: time over that of uniform routing. Fewer distinct experts are fewer bytes, so 1 is no bar for memory-bound calls',
    spec: {
      ...BASE,
      title: title(
        'Skewed routing',
        'time ÷ time under uniform routing; pale: measured in company of other load',
      ),
      data: { values },
      facet: {
        row: { field: 'shape', type: 'nominal' as const },
        column: { field: 'panel', type: 'nominal' as const, sort: panels },
      },
      spec: {
        width: 120,
        height: 150,
        mark: { type: 'bar' },
        encoding: {
          x: {
            field: 'load',
            type: 'nominal' as const,
            sort: Object.values(LOAD_NAMES),
            title: null,
            axis: { labelAngle: 0 },
          },
          xOffset: { field: 'kind', sort: ['measured', LEAST] },
          y: { field: 'ratio', type: 'quantitative' as const, axis: { title: '÷ uniform', tickCount: 5 } },
          color: { field: 'kind', type: 'nominal' as const, sort: ['measured', LEAST], title: null },
          opacity: { condition: { test: 'datum.disturbed', value: 0.4 }, value: 1 },
        },
      },
    },
  }
}
