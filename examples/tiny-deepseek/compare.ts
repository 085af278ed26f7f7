/**
 * The sparse model beside its dense twins, one as large in all, one as large as what a token uses: loss, arithmetic, weights, time, energy.
 *
 *   npm run tiny:compare -- [--twins RUNS] [--windows N] [--device D] [--dtype D] [--write]
 *
 * The sparse model's loss is measured here; a twin's as well where --twins names its weights (train/publish.py leaves them in RUNS), else it
 * is the one recorded after training, on the same 64 windows. --write keeps the figures: results/compare.json, the chart training.svg, and the table in the README.
 */

import { readFile, writeFile } from 'node:fs/promises'
import path from 'node:path'
import { parseArgs } from 'node:util'
import { type DeviceOption, type DType, setLogger } from 'sparse-experts'
import { makePaint } from '../../lib/cli/format.js'
import { type CompareResults, compareReport, type ModelFigures } from './compare-report.js'
import { costsOfFeedForwards, costsOutside, countParameters, Decoder, heldOutLoss } from './decoder/index.js'
import { EnergyMeter } from './energy.js'
import { MODEL_DIRECTORY, README_FILE, RESULTS_DIRECTORY, readHeldOut } from './files.js'
import { describeMachine } from './machine.js'
import { measureModels } from './measure-models.js'
import { writeSection } from './readme-section.js'
import { readTrainingLogs, trainingChart } from './training-chart.js'
import { loadTwin, type TwinName } from './twins.js'

const { values } = parseArgs({
  options: {
    twins: { type: 'string' },
    windows: { type: 'string', default: '64' },
    device: { type: 'string', default: 'auto' },
    dtype: { type: 'string', default: 'auto' },
    write: { type: 'boolean', default: false },
  },
})

/** What train/publish.py records of a model. */
interface TrainingRecord {
  step: number
  heldOutBf16: number
}

setLogger(null)
const options = { device: values.device as DeviceOption, dtype: values.dtype as 'auto' | DType }
using model = await Decoder.load(MODEL_DIRECTORY, options)
const active = await loadTwin(model, MODEL_DIRECTORY, 'dense_active', options, values.twins)
using activeDecoder = active.decoder
const total = await loadTwin(model, MODEL_DIRECTORY, 'dense_total', options, values.twins)
using totalDecoder = total.decoder
const models = [
  { name: 'moe' as const, decoder: model, trained: true },
  { name: 'dense_active' as const, decoder: activeDecoder, trained: active.trained },
  { name: 'dense_total' as const, decoder: totalDecoder, trained: total.trained },
]

const text = await readHeldOut()
const windows = Number(values.windows)
const trainingFile = path.join(RESULTS_DIRECTORY, 'training.json')
const records = JSON.parse(await readFile(trainingFile, 'utf8')) as Partial<
  Record<'moe' | TwinName, TrainingRecord>
>
const decoders = models.map(({ decoder }) => decoder)
const times = await measureModels(decoders, text, await EnergyMeter.open())

const figures: ModelFigures[] = []
for (const [index, { name, decoder, trained }] of models.entries()) {
  const record = records[name]
  const measured = trained ? (await heldOutLoss(decoder, text, windows)).loss : null
  const feedForward = costsOfFeedForwards(decoder)
  const outside = costsOutside(decoder.config, decoder.dtype)
  figures.push({
    model: name,
    parameters: countParameters(decoder),
    steps: record?.step ?? null,
    heldOutLoss: measured ?? record?.heldOutBf16 ?? null,
    lossFrom: measured !== null ? 'measured' : record ? 'recorded' : null,
    feedForward,
    whole: {
      flops: feedForward.flops + outside.flops,
      weightBytes: feedForward.weightBytes + outside.weightBytes,
    },
    time: times[index]!,
  })
}
const results: CompareResults = {
  machine: describeMachine(model),
  windows,
  ownWeights: models.every(({ trained }) => trained),
  models: figures,
}
process.stdout.write(`${compareReport(results, makePaint(process.stdout)).join('\n')}\n`)

if (values.write) {
  const keep = (name: string, content: string) => writeFile(path.join(RESULTS_DIRECTORY, name), content)
  await keep('compare.json', `${JSON.stringify(results, null, 2)}\n`)
  await keep('training.svg', await trainingChart(await readTrainingLogs()))
  await writeSection(README_FILE, 'compare', compareReport(results, makePaint({}, {})))
}
