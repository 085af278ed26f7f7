import { describe, expect, it } from 'vitest'
import { canDraw } from '../../bench/report/render-svg.js'
import { computeBudgetChart, samplesChart } from '../../examples/tiny-deepseek/compute-budget-charts.js'
import { describeComputeBudget } from '../../examples/tiny-deepseek/measure-compute-budget.js'
import { trainingChart } from '../../examples/tiny-deepseek/training-chart.js'

// Vega comes with the first `npm run bench:report`; the landing check runs this file after that step.
describe.skipIf(!canDraw())('charts', () => {
  const figures = [{}, { topK: 1 }, { topP: 0.5 }].map((computeBudget, index) => ({
    setting: describeComputeBudget(computeBudget),
    computeBudget,
    expertsPerToken: 4 - index,
    heldOutLoss: 1 + 0.1 * index,
    flopsPerToken: 1e6 - 2e5 * index,
    weightBytesPerToken: 1e6,
    feedForwardMs: 1,
  }))

  it('are SVG with the settings on them', async () => {
    const svg = await computeBudgetChart(figures)
    expect(svg).toMatch(/^<svg /)
    for (const label of ['as trained', 'topK', 'topP', '>1<', '>0.5<', 'held-out loss'])
      expect(svg).toContain(label)
    const samples = [1, 2].map(numSamples => ({
      numSamples,
      distinctExperts: 4 * numSamples,
      uniformExperts: 4 * numSamples,
      weightBytesPerStep: 1,
      weightBytesPerToken: 1,
    }))
    expect(await samplesChart(samples, 32)).toContain('of 32')
    const log = [1, 2].map(step => ({ step, loss: 2 - 0.3 * step, heldOut: 1.9 }))
    expect(await trainingChart(new Map([['moe', log]]))).toContain('nats per byte')
  })
})
