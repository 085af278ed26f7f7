/**
 * The sparse model beside its dense twins, one as large in all, one as large as what a token uses: loss, arithmetic, weights, time, energy.
 *
 *   npm run tiny:compare -- [--twins RUNS] [--windows N] [--device D] [--dtype D] [--write]
 *   npm run tiny:compare -- --recorded [--write]
 *
 * The sparse model's loss is measured here; a twin's as well where --twins names its weights (train/publish.py leaves them in RUNS), else it
 * is the one recorded after training, on the same 64 windows. --recorded prints what was measured last. --write keeps the figures:
 * results/compare.json, the chart training.svg, and the table in both READMEs.
 */

import { readFile, writeFile } from 'node:fs/promises'
import path from 'node:path'
import { parseArgs } from 'node:util'
import { type DeviceOption, type DType, devices, setLogger } from 'sparse-experts'
import { watchLoad } from '../../bench/harness/other-load.js'
import { makePaint } from '../../lib/cli/format.js'
import { type CompareResults, compareReport, type ModelFigures } from './compare-report.js'
import { costsOfFeedForwards, costsOutside, countParameters, Decoder, heldOutLoss } from './decoder/index.js'
import { type EnergyCounter, EnergyMeter } from './energy.js'
import { lastEqualStep } from './equal-steps.js'
import { MODEL_DIRECTORY, README_FILE, RESULTS_DIRECTORY, readHeldOut } from './files.js'
import { GpuEnergyMeter } from './gpu-energy.js'
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
    recorded: { type: 'boolean', default: false },
    write: { type: 'boolean', default: false },
  },
})

/** What train/publish.py records of a model. */
interface TrainingRecord {
  step: number
  heldOutBf16: number
}

const NAMES = ['moe', 'dense_active', 'dense_total'] as const

async function measure(): Promise<CompareResults> {
  const options = { device: values.device as DeviceOption, dtype: values.dtype as 'auto' | DType }
  using model = await Decoder.load(MODEL_DIRECTORY, options)
  const active = await loadTwin(model, MODEL_DIRECTORY, 'dense_active', options, values.twins)
  using activeDecoder = active.decoder
  const total = await loadTwin(model, MODEL_DIRECTORY, 'dense_total', options, values.twins)
  using totalDecoder = total.decoder
  const decoders = [model, activeDecoder, totalDecoder]
  const trained = [true, active.trained, total.trained]

  const text = await readHeldOut()
  const windows = Number(values.windows)
  const records = JSON.parse(
    await readFile(path.join(RESULTS_DIRECTORY, 'training.json'), 'utf8'),
  ) as Partial<Record<'moe' | TwinName, TrainingRecord>>
  const watch = watchLoad()
  const times = await measureModels(decoders, text, await openMeter(model.device))
  const machine = describeMachine(model, watch.stop())
  const figures: ModelFigures[] = []
  for (const [index, name] of NAMES.entries()) {
    const decoder = decoders[index]!
    const record = records[name]
    const measured = trained[index] ? (await heldOutLoss(decoder, text, windows)).loss : null
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
  return {
    machine,
    windows,
    ownWeights: trained.every(Boolean),
    equalSteps: lastEqualStep(await readTrainingLogs(), NAMES),
    models: figures,
  }
}

async function openMeter(device: string): Promise<EnergyCounter | null> {
  if (!device.startsWith('cuda')) return EnergyMeter.open()
  return GpuEnergyMeter.open(devices().find(({ id }) => id === device)!.name)
}

setLogger(null)
const resultsFile = path.join(RESULTS_DIRECTORY, 'compare.json')
const results = values.recorded
  ? (JSON.parse(await readFile(resultsFile, 'utf8')) as CompareResults)
  : await measure()
process.stdout.write(`${compareReport(results, makePaint(process.stdout)).join('\n')}\n`)

if (values.write) {
  await writeFile(resultsFile, `${JSON.stringify(results, null, 2)}\n`)
  await writeFile(path.join(RESULTS_DIRECTORY, 'training.svg'), await trainingChart(await readTrainingLogs()))
  const lines = compareReport(results, makePaint({}, {}))
  await writeSection(README_FILE, 'compare', lines)
}
