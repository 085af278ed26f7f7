import { describe, expect, it } from 'vitest'
import type { Row } from '../../bench/harness/results.js'
import { expertsChart } from '../../bench/report/charts/experts.js'
import { peersChart } from '../../bench/report/charts/peers.js'
import { rooflineChart } from '../../bench/report/charts/roofline.js'
import { skewChart } from '../../bench/report/charts/skew.js'
import { threadsChart } from '../../bench/report/charts/threads.js'
import { canDraw, renderSvg } from '../../bench/report/render-svg.js'
import { machine, peerRows, rows } from './report-rows.js'

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

  it('of peers name each of them', async () => {
    const svg = await renderSvg(peersChart(peerRows)!.spec)
    for (const name of ['sparse-experts', 'onnxruntime-node', 'PyTorch loop']) expect(svg).toContain(name)
  })

  it('are refused when Vega has doubts', async () => {
    const { spec } = peersChart(peerRows)!
    await expect(renderSvg({ ...spec, data: { values: [{ shape: 'empty' }] } })).rejects.toThrow('extent')
  })
})
