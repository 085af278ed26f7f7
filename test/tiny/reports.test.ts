/** What the commands printed last stands in the README, and runs of unequal length are compared where they are equal. */

import { readFile } from 'node:fs/promises'
import path from 'node:path'
import { describe, expect, it } from 'vitest'
import { type CompareResults, compareReport } from '../../examples/tiny-deepseek/compare-report.js'
import {
  type ComputeBudgetResults,
  computeBudgetReport,
} from '../../examples/tiny-deepseek/compute-budget-report.js'
import { lastEqualStep } from '../../examples/tiny-deepseek/equal-steps.js'
import { README_FILE, RESULTS_DIRECTORY } from '../../examples/tiny-deepseek/files.js'
import { TINY_FORMS } from '../../examples/tiny-deepseek/quantise/forms.js'
import { type QuantisedResults, quantisedReport } from '../../examples/tiny-deepseek/quantised-report.js'
import { replaceSection } from '../../examples/tiny-deepseek/readme-section.js'
import { readTrainingLogs } from '../../examples/tiny-deepseek/training-chart.js'
import { makePaint } from '../../lib/cli/format.js'

const plain = makePaint({}, {})
const recorded = async <Results>(name: string) =>
  JSON.parse(await readFile(path.join(RESULTS_DIRECTORY, name), 'utf8')) as Results

describe('the tables in the README of the model', () => {
  it('has those of the recorded results', async () => {
    const markdown = await readFile(README_FILE, 'utf8')
    const budget = computeBudgetReport(await recorded<ComputeBudgetResults>('compute-budget.json'), plain)
    expect(replaceSection(markdown, 'compute-budget', budget)).toBe(markdown)
    const compare = compareReport(await recorded<CompareResults>('compare.json'), plain)
    expect(replaceSection(markdown, 'compare', compare)).toBe(markdown)
  })

  it('has that of the quantised forms', async () => {
    const markdown = await readFile(README_FILE, 'utf8')
    const results = await recorded<QuantisedResults>('quantised.json')
    expect(results.forms.map(({ form }) => form)).toEqual([...TINY_FORMS])
    expect(replaceSection(markdown, 'quantised', quantisedReport(results, plain))).toBe(markdown)
  })

  it('are of the weights that ship: what was recorded after training is what was measured', async () => {
    const { models } = await recorded<CompareResults>('compare.json')
    const training = await recorded<Record<string, { step: number; heldOutBf16: number }>>('training.json')
    for (const { model, steps, heldOutLoss } of models) {
      expect(steps).toBe(training[model]?.step ?? null)
      if (heldOutLoss !== null)
        expect(Math.abs(heldOutLoss - training[model]!.heldOutBf16)).toBeLessThan(1e-3)
    }
  })
})

describe('runs of unequal length', () => {
  const log = (...evaluations: [step: number, heldOut?: number][]) =>
    evaluations.map(([step, heldOut]) => ({ step, loss: 9, ...(heldOut === undefined ? {} : { heldOut }) }))
  const long = log([500, 1.5], [1000, 1.25], [1500, 1.125])

  it('are compared after the last step that all of them evaluated', () => {
    const logs = new Map([
      ['a', long],
      ['b', log([500, 1.6], [1000, 1.3], [1050])],
    ])
    expect(lastEqualStep(logs, ['a', 'b'])).toEqual({ step: 1000, losses: [1.25, 1.3] })
    expect(lastEqualStep(logs, ['b', 'a'])?.losses).toEqual([1.3, 1.25])
  })

  it('are not where one is missing, nothing is shared, or all are equally long', () => {
    expect(lastEqualStep(new Map([['a', long]]), ['a', 'b'])).toBeNull()
    expect(
      lastEqualStep(
        new Map([
          ['a', long],
          ['b', log([50])],
        ]),
        ['a', 'b'],
      ),
    ).toBeNull()
    expect(
      lastEqualStep(
        new Map([
          ['a', long],
          ['b', long],
        ]),
        ['a', 'b'],
      ),
    ).toBeNull()
  })

  it('logs name each step once, in order', async () => {
    for (const lines of (await readTrainingLogs()).values())
      for (const [index, { step }] of lines.entries())
        expect(step).toBeGreaterThan(lines[index - 1]?.step ?? 0)
  })

  it('stand in the table with their own row', () => {
    const figures = (heldOutLoss: number, steps: number) => ({
      parameters: 1,
      steps,
      heldOutLoss,
      lossFrom: 'measured' as const,
      feedForward: { flops: 1, weightBytes: 1 },
      whole: { flops: 1, weightBytes: 1 },
      time: { feedForwardMs: 1, totalMs: 1, batchFeedForwardMs: 1, joules: null },
    })
    const results: CompareResults = {
      machine: { cpu: 'X', cores: 2, node: '', device: 'cpu', dtype: 'f32', otherCores: 0, kernel: '' },
      windows: 1,
      ownWeights: true,
      equalSteps: { step: 1000, losses: [1.2, 1.3] },
      models: [
        { model: 'moe', ...figures(1, 2500) },
        { model: 'dense_active', ...figures(1.3, 1000) },
      ],
    }
    const text = compareReport(results, plain).join('\n')
    expect(text).toMatch(/on cpu \(X, 2 cores\), f32/)
    expect(text).toMatch(/after 1,000 steps each +1\.2000 +1\.3000\n/)
    expect(text).toContain('only the losses after 1,000 steps can be compared')
    expect(text).not.toContain('other processes')
    const busy = { ...results, machine: { ...results.machine, otherCores: 1.25 } }
    expect(compareReport(busy, plain).join('\n')).toContain('had 1.3 of 2 cores')
    expect(compareReport({ ...results, equalSteps: null }, plain).join('\n')).not.toContain('1,000 steps')
  })
})
