/** The charts of the compute budget: loss against arithmetic, and experts met against samples. */

import { drawChart } from './chart.js'
import type { ComputeBudgetFigures } from './measure-compute-budget.js'
import type { SampleFigures } from './parallel-samples.js'

/** Loss against the arithmetic of the sparse layers, one line for each way to spend less; a point is labelled with its value. */
export function computeBudgetChart(figures: readonly ComputeBudgetFigures[]): Promise<string> {
  const values = figures.flatMap(({ computeBudget, setting, flopsPerToken, heldOutLoss }) => {
    const value = Object.values(computeBudget)[0]
    const point = {
      label: value === undefined ? setting : String(value),
      megaflops: flopsPerToken / 1e6,
      loss: heldOutLoss,
    }
    // The layer as trained is a point of both lines.
    if (computeBudget.topK === undefined && computeBudget.topP === undefined)
      return ['topK', 'topP'].map(series => ({ ...point, series }))
    return [{ ...point, series: computeBudget.topP === undefined ? 'topK' : 'topP' }]
  })
  const losses = figures.map(({ heldOutLoss }) => heldOutLoss)
  const [lowest, highest] = [Math.min(...losses), Math.max(...losses)]
  const x = {
    field: 'megaflops',
    type: 'quantitative' as const,
    title: 'MFLOP per token in the sparse layers',
  }
  // Room below for the labels of the lower line.
  const y = {
    field: 'loss',
    type: 'quantitative' as const,
    title: 'held-out loss (nats per byte)',
    scale: { domain: [lowest - 0.08 * (highest - lowest), highest] },
  }
  const color = { field: 'series', type: 'nominal' as const, title: 'compute budget' }
  return drawChart({
    width: 480,
    height: 300,
    data: { values },
    layer: [
      { mark: { type: 'line', point: true }, encoding: { x, y, color } },
      // Above one line and below the other, so that the labels of near points keep apart.
      ...[
        { filter: "datum.series === 'topK'", dx: 4, dy: -8, align: 'left' as const },
        {
          filter: "datum.series === 'topP' && datum.label !== 'as trained'",
          dx: -2,
          dy: 13,
          align: 'right' as const,
        },
      ].map(({ filter, ...place }) => ({
        transform: [{ filter }],
        mark: { type: 'text' as const, fontSize: 10, ...place },
        encoding: { x, y, color, text: { field: 'label' } },
      })),
    ],
  })
}

/** Distinct experts per step and layer, measured and under uniform routing. */
export function samplesChart(figures: readonly SampleFigures[], numExperts: number): Promise<string> {
  const values = figures.flatMap(({ numSamples, distinctExperts, uniformExperts }) => [
    { numSamples, experts: distinctExperts, series: 'measured' },
    { numSamples, experts: uniformExperts, series: 'uniform routing' },
  ])
  return drawChart({
    width: 480,
    height: 300,
    data: { values },
    mark: { type: 'line', point: true },
    encoding: {
      x: {
        field: 'numSamples',
        type: 'quantitative',
        title: 'parallel samples of one prompt',
        scale: { type: 'log', base: 2 },
      },
      y: {
        field: 'experts',
        type: 'quantitative',
        title: `distinct experts per layer and step, of ${numExperts}`,
        scale: { domain: [0, numExperts] },
      },
      color: { field: 'series', type: 'nominal', title: null },
    },
  })
}
