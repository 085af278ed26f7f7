import { describe, expect, it } from 'vitest'
import type { Row } from '../../bench/harness/results.js'
import { expertsChart } from '../../bench/report/charts/experts.js'
import { hitRateChart } from '../../bench/report/charts/hit-rate.js'
import { peersChart } from '../../bench/report/charts/peers.js'
import { rooflineChart } from '../../bench/report/charts/roofline.js'
import { serverChart } from '../../bench/report/charts/server.js'
import { skewChart } from '../../bench/report/charts/skew.js'
import { grid } from '../../bench/report/charts/style.js'
import { threadsChart } from '../../bench/report/charts/threads.js'
import { canDraw, renderSvg } from '../../bench/report/render-svg.js'
import { MODES } from '../../bench/server/modes.js'
import { summarise } from '../../bench/server/server-results.js'
import { cell, machine, peer, peerRows, rows } from './report-rows.js'

/** What the tests read of a specification. */
interface Drawn {
  data: { values: { dtype: string; panel: string }[] }
  facet: { field: string; sort: string[] }
  columns: number
  resolve: { axis: { x: string } }
  spec: { layer: { encoding: Record<string, { scale?: { domain: string[] } }> }[] }
}
const specOf = (chart: { spec: unknown } | null) => chart!.spec as Drawn

describe('what a picture has room for', () => {
  it.each([['f32'], ['f32', 'bf16'], ['f32', 'int4']].map(dtypes => [dtypes]))(
    'is a legend for the lines of peers that are there: %j',
    dtypes => {
      const measured = dtypes.map(dtype =>
        peer({ dtype, group: dtype === 'int4' ? 'quantized' : dtype, peer: 'a' }),
      )
      const { spec } = specOf(peersChart(measured as typeof peerRows))
      expect(spec.layer[0]!.encoding.strokeDash!.scale!.domain).toEqual(dtypes)
    },
  )

  // Four models in rows of three had two empty panels behind them.
  it.each([
    [1, 1, 'shared'],
    [2, 2, 'shared'],
    [3, 3, 'shared'],
    [4, 2, 'shared'],
    [5, 3, 'independent'],
    [6, 3, 'shared'],
    [7, 3, 'independent'],
  ])('is %i panels in rows of %i', (count, columns, x) => {
    expect(grid(count)).toEqual({ columns, axis: { x } })
    const shapes = Array.from({ length: count }, (_, index) => cell({ shape: `model ${index}` }))
    expect(specOf(rooflineChart(shapes, machine))).toMatchObject({ columns, resolve: { axis: { x } } })
  })

  it('is a panel for each model and dtype that was measured, and no other', () => {
    const measured = [
      ...[1, 2].flatMap(threads => [
        cell({ shape: 'a', threads }),
        cell({ shape: 'a', dtype: 'bf16', threads }),
        cell({ shape: 'b', threads }),
      ]),
      ...(['uniform', 'zipf'] as const).flatMap(load => [
        cell({ shape: 'a', load }),
        cell({ shape: 'a', dtype: 'bf16', load }),
        cell({ shape: 'b', load }),
      ]),
    ]
    const panels = ['a, bf16', 'a, f32', 'b, f32']
    for (const chart of [threadsChart(measured), skewChart(measured, machine)]) {
      const { data, facet, columns } = specOf(chart)
      expect(facet.field).toBe('panel')
      expect([...facet.sort].sort()).toEqual(panels)
      expect([...new Set(data.values.map(value => value.panel))].sort()).toEqual(panels)
      expect(columns).toBe(3)
    }
  })
})

const simulated = [0.5, 1].flatMap(share =>
  (['lru', 'lfu'] as const).map(policy => {
    const [hitRate, bound] = policy === 'lru' ? [share / 2, share] : [share / 4, share]
    return { share, simulation: { policy, hitRate, belady: { hitRate: bound } } as never }
  }),
)

it('a line of hits for each policy, and one for the bound', () => {
  const { data } = hitRateChart(simulated, '').spec as { data: { values: Record<string, unknown>[] } }
  const line = (policy: string) =>
    data.values.filter(value => value.policy === policy).map(({ share, hitRate }) => [share, hitRate])
  expect(line('lru')).toEqual([
    [0.5, 0.25],
    [1, 0.5],
  ])
  expect(line('lfu')).toEqual([
    [0.5, 0.125],
    [1, 0.25],
  ])
  expect(line('best of any policy')).toEqual([
    [0.5, 0.5],
    [1, 1],
  ])
  expect(data.values).toHaveLength(6)
})

// Vega comes with the first `npm run bench:report`; the landing check runs this file after that step.
describe.skipIf(!canDraw())('charts', () => {
  const disturbed = <R extends { disturbed: boolean }>(all: R[]) =>
    all.map(row => ({ ...row, disturbed: true }))

  it.each([
    ['the roofline', (all: Row[]) => rooflineChart(all, machine)],
    ['threads', (all: Row[]) => threadsChart(all)],
    ['experts', (all: Row[]) => expertsChart(all, machine)],
    ['skew', (all: Row[]) => skewChart(all, machine)],
  ])('of %s are drawn whole, disturbed or not', async (_, chart) => {
    for (const all of [rows, disturbed(rows)]) {
      const svg = await renderSvg(chart(all)!.spec)
      expect(svg).toContain('<svg')
      expect(svg).not.toMatch(/NaN|undefined|Infinity/)
    }
  })

  it('of a server’s requests name each way to run them, with its figures', async () => {
    const figures = [{ requestsPerSecond: 1234, p50Ms: 5, p99Ms: 17, rowsPerForward: 1, foreignCores: 0 }]
    const measured = summarise(
      { shape: 'small', dtype: 'bf16', clients: 50 },
      new Map(MODES.map(mode => [mode, figures])),
    )
    const svg = await renderSvg(serverChart(measured).spec)
    for (const text of [...MODES, 'small bf16, 50 clients', '1,234', '17.0']) expect(svg).toContain(text)
    expect(svg).not.toMatch(/NaN|undefined|Infinity/)
  })

  it('of hits name policies and the bound', async () => {
    const svg = await renderSvg(hitRateChart(simulated, 'of a test').spec)
    for (const name of ['lru', 'lfu', 'best of any policy', 'of a test']) expect(svg).toContain(name)
  })

  it('of peers name each of them', async () => {
    const svg = await renderSvg(peersChart(peerRows)!.spec)
    for (const name of ['sparse-experts', 'onnxruntime-node', 'PyTorch loop']) expect(svg).toContain(name)
  })

  it('are refused when Vega has doubts', async () => {
    const { spec } = peersChart(peerRows)!
    await expect(renderSvg({ ...spec, data: { values: [{ shape: 'empty' }] } })).rejects.toThrow('extent')
  })
})
