/**
 * The small trained model at work:
 * 1. loads it, its sparse layers through the package;
 * 2. lets it write, beside each line the experts that wrote it;
 * 3. checks the same text on the double-precision reference;
 * 4. shows which experts work on which characters of a text it never saw, and how even their load is;
 * 5. what was computed and read against dense, and what the model takes and loses as a GGUF file of four bits;
 * 6. what a smaller compute budget saves and costs in loss.
 */

import { mkdtemp, rm, stat, writeFile } from 'node:fs/promises'
import os from 'node:os'
import path from 'node:path'
import { parseArgs } from 'node:util'
import { type DeviceOption, devices, setLogger } from 'sparse-experts'
import { describeLayer } from '../../lib/cli/describe-layer.js'
import {
  formatBytes,
  formatCount,
  formatDuration,
  formatError,
  formatFlops,
  formatPercent,
  formatRatio,
  makePaint,
  table,
} from '../../lib/cli/format.js'
import { loadChart } from '../../lib/cli/load-chart.js'
import { relativeError, rowsWithOtherIds } from '../../lib/devices/accuracy.js'
import {
  Decoder,
  encodeText,
  heldOutLoss,
  LOGIT_BOUND,
  type LossResult,
  windowBytes,
} from '../tiny-deepseek/decoder/index.js'
import { MODEL_DIRECTORY, readHeldOut } from '../tiny-deepseek/files.js'
import { heldBytes } from '../tiny-deepseek/quantise/forms.js'
import { loadTinyGguf, writeTinyGguf } from '../tiny-deepseek/quantise/gguf.js'
import { LiveText } from './live-text.js'
import { storyPage } from './page.js'
import { byteLabel, type Reading } from './preferences.js'
import { recordingSvg } from './recording.js'
import { routingByWord, wordTable } from './steps.js'
import { expertLoad, writeStory } from './story.js'

const { values } = parseArgs({
  options: {
    device: { type: 'string', default: 'auto' },
    quick: { type: 'boolean', default: false },
    prompt: { type: 'string', default: 'And it came to pass ' },
    seed: { type: 'string', default: '1' },
    html: { type: 'string' },
    svg: { type: 'string' },
  },
})
const device = values.device as DeviceOption
const began = performance.now()
const paint = makePaint(process.stdout)
const print = (...lines: string[]) => process.stdout.write(`${lines.join('\n')}\n`)
const heading = (text: string, note = '') =>
  print('', `${paint.bold(text)}${note ? `  ${paint.dim(note)}` : ''}`)
// The demo says itself when it runs on the reference.
setLogger(null)

heading('1. A small trained model', 'examples/tiny-deepseek: DeepSeek-V3 in small, bytes are its tokens')
using decoder = await Decoder.load(MODEL_DIRECTORY, { device })
const last = decoder.sparseLayers.at(-1)!
const sparse = decoder.feedForwards[last]!
print(
  ...table([
    ...describeLayer(sparse.config).map(([label, value]) => [paint.dim(label), value]),
    [
      paint.dim('layers'),
      `${decoder.config.numLayers}, the feed-forwards of ${decoder.sparseLayers.length} of them sparse; attention with a latent cache`,
    ],
    [
      paint.dim('device'),
      `${sparse.device}, ${sparse.dtype}: ${sparse.explain(1).stages.find(stage => stage.stage === 'gateUp')!.kernel}`,
    ],
  ]),
)
const onReference = sparse.device === 'reference'
if (onReference && device === 'auto') {
  const reason = devices()
    .find(info => info.id === 'cpu')
    ?.reason?.split('\n')[0]
  print(
    '',
    paint.yellow(`  This runs on the reference, which is exact and slow. ${reason ?? ''}`),
    paint.yellow('  Install CMake and a C++17 compiler, then: npm run build:native && npm run demo'),
  )
}

heading(
  '2. It writes, token by token',
  `beside each line the experts of layer ${last} that wrote it, #0 to #${sparse.config.numExperts - 1}; · = none`,
)
const live = new LiveText(text => process.stdout.write(text), paint, sparse.config.numExperts)
live.prompt(values.prompt)
const story = await writeStory(
  decoder,
  values.prompt,
  { maxTokens: values.quick ? 48 : 400, seed: Number(values.seed), temperature: 0.7, topP: 0.95 },
  (text, experts) => live.push(text, experts.at(-1)!),
)
live.end()
const perToken = story.totalMs / Math.max(1, story.tokens.length - 1)
print(
  paint.dim(
    `  ${formatDuration(perToken)} per token, of which ${formatPercent(story.feedForwardMs / story.totalMs)} in the feed-forwards`,
  ),
)

heading('3. The same text on the double-precision reference', "device: 'reference'")
const check = await checkOnReference(values.quick ? 24 : 128)
print(`  ${check.ok ? paint.green('ok') : paint.red('FAILED')}  ${check.text}`)

const heldOut = await readHeldOut()
const windows = values.quick || onReference ? 1 : 3
const read = await heldOutLoss(decoder, heldOut, windows)
const reading = readingOf(read, windowBytes(heldOut, windows))
const lastIds = reading.layers.at(-1)!.topkIds
heading(
  `4. Which experts of layer ${last} work on which characters`,
  `${formatCount(read.numTokens)} bytes that training never saw, held-out loss ${read.loss.toFixed(3)} nats per byte`,
)
print(
  ...wordTable(
    routingByWord(reading.bytes.map(byteLabel), lastIds, sparse.config.topK, sparse.config.numExperts),
    8,
    paint,
  ),
)
print('')
print(...loadChart(expertLoad({ numExperts: sparse.config.numExperts, topkIds: lastIds }), paint, { top: 6 }))

heading('5. Read and computed against dense', 'sparse layers; dense: all experts of each')
print(...savedRows())
print(await ggufLine())

heading(
  '6. Compute budget: fewer experts than trained',
  'decoder.forward(tokens, { topK: 2 }), { topP: 0.6 }',
)
await turnComputeBudget()

if (values.html) {
  await writeFile(values.html, storyPage(story, reading))
  heading('The page', values.html)
}
if (values.svg) {
  const { numExperts, topK } = sparse.config
  await writeFile(values.svg, recordingSvg(live.lines, { numExperts, topK, prompt: values.prompt }))
  heading('The picture', values.svg)
}
heading('Next')
print(
  '  npm run demo -- --html out.html        every layer and token as one page',
  '  npm run demo -- --random               a larger layer: fp8, shards, words',
  '  npm run tiny:quantised                 the model in every form that its matrices fit',
  '  npx sparse-experts run <a downloaded DeepSeek, Qwen, Mixtral, gpt-oss … checkpoint>',
  paint.dim(`  ${formatDuration(performance.now() - began)} in all`),
)
if (!check.ok) process.exitCode = 1

/** Logits and experts of the first bytes of the story, here and on the reference. */
async function checkOnReference(count: number): Promise<{ ok: boolean; text: string }> {
  using reference = await Decoder.load(MODEL_DIRECTORY, { device: 'reference', dtype: 'f32' })
  const tokens = [...encodeText(values.prompt), ...story.tokens].slice(0, count)
  const [ours, exact] = [
    await decoder.forward([{ sequence: decoder.newSequence(), tokens }]),
    await reference.forward([{ sequence: reference.newSequence(), tokens }]),
  ]
  const error = relativeError(ours.logits, exact.logits)
  const bound = LOGIT_BOUND[decoder.dtype]
  const others = exact.routing.reduce(
    (sum, { topkIds, topK }, index) =>
      sum + rowsWithOtherIds(ours.routing[index]!.topkIds, topkIds, topK).length,
    0,
  )
  const selections = tokens.length * exact.routing.length
  const ids =
    others === 0 ? `all ${selections} selections equal` : `${others} of ${selections} selections differ`
  const text = `logits of ${tokens.length} tokens: relative error ${formatError(error)} (bound ${formatError(bound)}), ${ids}`
  return { ok: error <= bound, text }
}

/** The bytes that were read, and each sparse layer's experts for them, over all windows. */
function readingOf({ routing }: LossResult, bytes: number[]): Reading {
  const layers = routing[0]!.map(({ layer, numExperts, topK }, index) => {
    const topkIds = Int32Array.from(routing.flatMap(window => [...window[index]!.topkIds]))
    return { layer, numExperts, topK, topkIds }
  })
  return { bytes, layers }
}

function savedRows(): string[] {
  const sum = (key: 'flops' | 'denseFlops' | 'weightBytes' | 'denseWeightBytes') =>
    story.layers.reduce((total, { work }) => total + work[key], 0)
  const row = (label: string, ours: number, dense: number, format: (value: number) => string) => [
    paint.dim(label),
    format(ours),
    'of',
    format(dense),
    paint.green(`${formatRatio(dense / ours)} less`),
  ]
  const { rows, tokens } = story
  return table(
    [
      row('arithmetic per token', sum('flops') / rows, sum('denseFlops') / rows, formatFlops),
      row(
        'weights read per call',
        sum('weightBytes') / tokens.length,
        sum('denseWeightBytes') / tokens.length,
        formatBytes,
      ),
    ],
    'lrlrr',
  )
}

/** The feed-forwards in Q4_0, as a file and as this device multiplies them. */
async function ggufLine(): Promise<string> {
  const directory = await mkdtemp(path.join(os.tmpdir(), 'sparse-experts-demo-'))
  try {
    const file = path.join(directory, 'tiny-q4_0.gguf')
    await writeTinyGguf(MODEL_DIRECTORY, 'q4_0', file)
    using coded = await loadTinyGguf(MODEL_DIRECTORY, file, 'q4_0', { device, dtype: decoder.dtype })
    const { loss } = await heldOutLoss(coded, heldOut, windows)
    const [before, after] = [decoder, coded].map(model => formatBytes(heldBytes(model)))
    // The reference decodes all weights.
    const held = onReference ? '' : `, feed-forwards hold ${after} instead of ${before}`
    const losses = `held-out loss ${loss.toFixed(3)} instead of ${read.loss.toFixed(3)}`
    return `  ${paint.dim('as GGUF, Q4_0')}  ${formatBytes((await stat(file)).size)} on disk${held}, ${losses}`
  } finally {
    await rm(directory, { recursive: true, force: true })
  }
}

async function turnComputeBudget(): Promise<void> {
  const lines: string[][] = [['', 'experts per token', 'arithmetic', 'held-out loss', ''].map(paint.dim)]
  const measure = (result: LossResult) => {
    const works = result.routing.flatMap(layers => layers.map(({ work }) => work))
    const experts = works.reduce((sum, { expertTokens }) => sum + expertTokens.reduce((a, b) => a + b, 0), 0)
    return {
      flops: works.reduce((sum, { flops }) => sum + flops, 0),
      experts: experts / result.numTokens / decoder.sparseLayers.length,
    }
  }
  const full = measure(read)
  const settings = values.quick ? [{ topK: 1 }] : [{ topK: 2 }, { topK: 1 }, { topP: 0.6 }]
  for (const computeBudget of [{}, ...settings]) {
    const result =
      Object.keys(computeBudget).length === 0
        ? read
        : await heldOutLoss(decoder, heldOut, windows, computeBudget)
    const { flops, experts } = measure(result)
    const [[name, value] = ['as trained', '']] = Object.entries(computeBudget)
    const more = result.loss - read.loss
    lines.push([
      `${name} ${value}`.trim(),
      experts.toFixed(1),
      formatPercent(flops / full.flops),
      result.loss.toFixed(3),
      result === read ? '' : `${more < 0 ? '−' : '+'}${Math.abs(more).toFixed(3)}`,
    ])
  }
  print(...table(lines, 'lrrrr'))
  print(
    paint.dim(
      `  ${formatCount(read.numTokens)} bytes; more of them, plots, and what many samples share: npm run tiny:budget`,
    ),
  )
}
