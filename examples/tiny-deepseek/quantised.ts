/**
 * The model with its feed-forwards in codes: held-out loss, bytes held and time per token in each form that its matrices fit.
 *
 *   npm run tiny:quantised -- [--windows N] [--forms A,B] [--device D] [--write]
 *   npm run tiny:quantised -- --recorded [--write]
 *
 * --recorded prints what was measured last. --write keeps the figures: results/quantised.json, and the table in the README.
 */

import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import os from 'node:os'
import path from 'node:path'
import { parseArgs } from 'node:util'
import { type DeviceOption, setLogger } from 'sparse-experts'
import { watchLoad } from '../../bench/harness/other-load.js'
import { makePaint } from '../../lib/cli/format.js'
import { type Decoder, heldOutLoss } from './decoder/index.js'
import { MODEL_DIRECTORY, README_FILE, RESULTS_DIRECTORY, readHeldOut } from './files.js'
import { describeMachine } from './machine.js'
import { measureModels } from './measure-models.js'
import { heldBytes, loadTiny, TINY_FORMS, type TinyForm } from './quantise/forms.js'
import { type QuantisedResults, quantisedReport } from './quantised-report.js'
import { writeSection } from './readme-section.js'

const { values } = parseArgs({
  options: {
    windows: { type: 'string', default: '64' },
    forms: { type: 'string', default: TINY_FORMS.join() },
    device: { type: 'string', default: 'auto' },
    recorded: { type: 'boolean', default: false },
    write: { type: 'boolean', default: false },
  },
})

async function measure(): Promise<QuantisedResults> {
  const windows = Number(values.windows)
  const forms = values.forms.split(',') as TinyForm[]
  const wrong = forms.find(form => !TINY_FORMS.includes(form))
  if (wrong !== undefined) throw new RangeError(`--forms takes ${TINY_FORMS.join(', ')}; got '${wrong}'`)
  const scratch = await mkdtemp(path.join(os.tmpdir(), 'sparse-experts-tiny-'))
  const decoders: Decoder[] = []
  try {
    for (const form of forms)
      decoders.push(await loadTiny(form, MODEL_DIRECTORY, scratch, { device: values.device as DeviceOption }))
    const text = await readHeldOut()
    const watch = watchLoad()
    const times = await measureModels(decoders, text, null)
    const machine = describeMachine(decoders[0]!, watch.stop())
    const figures: QuantisedResults['forms'] = []
    for (const [index, form] of forms.entries()) {
      const decoder = decoders[index]!
      const { loss } = await heldOutLoss(decoder, text, windows)
      const costs = decoder.feedForwards.map(layer => layer.explain(1).expectedWeightBytes)
      figures.push({
        ...{ form, loss, heldBytes: heldBytes(decoder), time: times[index]! },
        tokenBytes: costs.reduce((a, b) => a + b, 0),
      })
    }
    return { machine, windows, forms: figures }
  } finally {
    for (const decoder of decoders) decoder.dispose()
    await rm(scratch, { recursive: true, force: true })
  }
}

setLogger(null)
const resultsFile = path.join(RESULTS_DIRECTORY, 'quantised.json')
const results = values.recorded
  ? (JSON.parse(await readFile(resultsFile, 'utf8')) as QuantisedResults)
  : await measure()
process.stdout.write(`${quantisedReport(results, makePaint(process.stdout)).join('\n')}\n`)

if (values.write) {
  await writeFile(resultsFile, `${JSON.stringify(results, null, 2)}\n`)
  await writeSection(README_FILE, 'quantised', quantisedReport(results, makePaint({}, {})))
}
