/**
 * The compute budget on trained weights: what fewer experts per token save and cost, what N samples of one prompt share, and requests with budgets.
 *
 *   npm run tiny:budget -- [--windows N] [--steps N] [--device D] [--dtype D] [--write]
 *   npm run tiny:budget -- --recorded [--write]
 *
 * --recorded prints what was measured last. --write keeps the figures: results/compute-budget.json, the charts compute-budget.svg and samples.svg, and the
 * tables in both READMEs.
 */

import { mkdir, readFile, writeFile } from 'node:fs/promises'
import path from 'node:path'
import { parseArgs } from 'node:util'
import { type DeviceOption, type DType, setLogger } from 'sparse-experts'
import { watchLoad } from '../../bench/harness/other-load.js'
import { makePaint } from '../../lib/cli/format.js'
import { computeBudgetChart, samplesChart } from './compute-budget-charts.js'
import { type ComputeBudgetResults, computeBudgetReport } from './compute-budget-report.js'
import { type ComputeBudget, Decoder, encodeText } from './decoder/index.js'
import { MODEL_DIRECTORY, README_FILE, RESULTS_DIRECTORY, readHeldOut } from './files.js'
import { describeMachine } from './machine.js'
import { measureBudgets } from './measure-budgets.js'
import { measureComputeBudget } from './measure-compute-budget.js'
import { measureSamples } from './parallel-samples.js'
import { writeSection } from './readme-section.js'

const { values } = parseArgs({
  options: {
    windows: { type: 'string', default: '8' },
    steps: { type: 'string', default: '32' },
    device: { type: 'string', default: 'auto' },
    dtype: { type: 'string', default: 'auto' },
    recorded: { type: 'boolean', default: false },
    write: { type: 'boolean', default: false },
  },
})
const SAMPLES = [1, 2, 4, 8, 16, 32]
const TOP_P = [0.9, 0.8, 0.7, 0.6, 0.5, 0.4]
/** Budgets of requests, of what the text costs as trained. */
const SHARES = [1, 0.8, 0.6, 0.4]
const PROMPT = 'And it came to pass '

const progress = (line: string) => {
  if (process.stderr.isTTY) process.stderr.write(`\r${line}\u001b[K`)
}

async function measure(): Promise<ComputeBudgetResults> {
  const [windows, steps] = [Number(values.windows), Number(values.steps)]
  using decoder = await Decoder.load(MODEL_DIRECTORY, {
    device: values.device as DeviceOption,
    dtype: values.dtype as 'auto' | DType,
  })
  const text = await readHeldOut()
  const { topK, numExperts } = decoder.feedForwards[decoder.sparseLayers[0]!]!.config
  const fewer = Array.from({ length: topK }, (_, index) => ({ topK: topK - 1 - index }))
  const settings: ComputeBudget[] = [{}, ...fewer, ...TOP_P.map(topP => ({ topP }))]
  const watch = watchLoad()
  const computeBudgets = await measureComputeBudget(decoder, text, settings, windows, done =>
    progress(`${done} of ${settings.length} settings`),
  )
  const results: ComputeBudgetResults = {
    machine: describeMachine(decoder, watch.stop()),
    windows,
    steps,
    numExperts,
    computeBudgets,
    samples: await measureSamples(decoder, encodeText(PROMPT), SAMPLES, steps),
    budgets: await measureBudgets(decoder, text, SHARES),
  }
  progress('')
  return results
}

setLogger(null)
const resultsFile = path.join(RESULTS_DIRECTORY, 'compute-budget.json')
const results = values.recorded
  ? (JSON.parse(await readFile(resultsFile, 'utf8')) as ComputeBudgetResults)
  : await measure()
process.stdout.write(`${computeBudgetReport(results, makePaint(process.stdout)).join('\n')}\n`)

if (values.write) {
  await mkdir(RESULTS_DIRECTORY, { recursive: true })
  const keep = (name: string, content: string) => writeFile(path.join(RESULTS_DIRECTORY, name), content)
  await keep('compute-budget.json', `${JSON.stringify(results, null, 2)}\n`)
  await keep('compute-budget.svg', await computeBudgetChart(results.computeBudgets))
  await keep('samples.svg', await samplesChart(results.samples, results.numExperts))
  await writeSection(README_FILE, 'compute-budget', computeBudgetReport(results, makePaint({}, {})))
}
