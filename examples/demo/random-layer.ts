/**
 * One larger layer with random weights: writes a checkpoint in DeepSeek-V3's published layout (fp8, shards), loads its MoE layer as a user
 * would, runs a text through it, compares with the double-precision reference, and shows which experts worked and what was saved.
 *
 *   npm run demo -- --random [--device auto|cpu|cuda|reference] [--quick]
 */

import { readFile, rm } from 'node:fs/promises'
import { parseArgs } from 'node:util'
import { type DeviceOption, devices, MoeLayer, setLogger } from 'sparse-experts'
import { describeLayer } from '../../lib/cli/describe-layer.js'
import {
  formatByteRate,
  formatBytes,
  formatDuration,
  formatFlopRate,
  formatPercent,
  formatRatio,
  makePaint,
  table,
} from '../../lib/cli/format.js'
import { loadChart } from '../../lib/cli/load-chart.js'
import { checkRows, sampleRows, takeRows, timeRuns } from '../../lib/cli/measure.js'
import { loadBar } from '../../lib/cli/progress.js'
import { describeCheck, savedTable } from '../../lib/cli/run-report.js'
import { relativeError } from '../../lib/devices/accuracy.js'
import { hiddenStatesOf, tokenize } from './hidden-states.js'
import { cacheDirectory, cachedCheckpoint, denseVariant, routingByWord, wordTable } from './steps.js'
import type { CheckpointShape } from './write-checkpoint.js'

const { values } = parseArgs({
  options: {
    random: { type: 'boolean' },
    device: { type: 'string', default: 'auto' },
    quick: { type: 'boolean', default: false },
  },
})
const device = values.device as DeviceOption

/** A layer of DeepSeek-V3 in small; 352 is not a multiple of 128, so the last blocks are cut as they are in real checkpoints. */
const SHAPE: CheckpointShape = {
  hiddenSize: values.quick ? 192 : 1024,
  moeIntermediateSize: values.quick ? 160 : 352,
  numExperts: 64,
  topK: 6,
  numGroups: 8,
  topkGroup: 4,
  intermediateSize: values.quick ? 256 : 1408,
  numShards: 3,
}
/** Of the text on the reference, which takes milliseconds per token. */
const REFERENCE_TOKENS = 96
const DENSE_TOKENS = 128

const paint = makePaint(process.stdout)
const print = (...lines: string[]) => process.stdout.write(`${lines.join('\n')}\n`)
const heading = (text: string, note = '') =>
  print('', `${paint.bold(text)}${note ? `  ${paint.dim(note)}` : ''}`)
// The demo says itself when it runs on the reference.
setLogger(null)

heading('1. A checkpoint in the published layout of DeepSeek-V3', 'random weights')
const writing = loadBar('  writing')
const cache = await cacheDirectory()
const { directory, written } = await cachedCheckpoint(cache, SHAPE, writing.update)
writing.stop()
print(`  ${directory}${written ? '' : paint.dim('  (kept from an earlier demo)')}`)

heading('2. Load its MoE layer', "await MoeLayer.load(directory, { layer: 1, device: 'auto' })")
const bar = loadBar('  loading')
const began = performance.now()
let loadedBytes = 0
const layer = await MoeLayer.load(directory, {
  layer: 1,
  device,
  onProgress: progress => {
    loadedBytes = progress.totalBytes
    bar.update(progress)
  },
})
bar.stop()
const loadMs = performance.now() - began
const { config } = layer
print(
  ...table([
    ...describeLayer(config).map(([label, value]) => [paint.dim(label), value]),
    [
      paint.dim('loaded'),
      `${formatBytes(loadedBytes)} of fp8 in ${formatDuration(loadMs)} (${formatByteRate(loadedBytes, loadMs)})`,
    ],
    [
      paint.dim('device'),
      `${layer.device}, ${layer.dtype}: ${layer.explain(1).stages.find(stage => stage.stage === 'gateUp')!.kernel}`,
    ],
  ]),
)
const onReference = layer.device === 'reference'
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

const text = await readFile(new URL('./text.txt', import.meta.url), 'utf8')
const tokens = tokenize(text).slice(0, onReference ? REFERENCE_TOKENS : undefined)
const hiddenStates = hiddenStatesOf(tokens, config.hiddenSize)
heading('3. Run a text through it', 'const { output, topkIds, work } = await layer.forward(hiddenStates)')
const { result, medianMs, times } = await timeRuns(() => layer.forward(hiddenStates))
const { work } = result
print(
  paint.dim(`  "${text.slice(0, 59)} …"  Charles Dickens, 1859`),
  `  ${tokens.length} tokens in ${paint.bold(formatDuration(medianMs))} (median of ${times.length}): ` +
    `${Math.round((tokens.length / medianMs) * 1000).toLocaleString('en-US')} tokens/s, ${formatFlopRate(work.flops, medianMs)}`,
)

heading('4. The same rows on the double-precision reference', "device: 'reference'")
const checking = loadBar('  loading the reference')
const reference = await MoeLayer.load(directory, {
  layer: 1,
  device: 'reference',
  dtype: 'f32',
  onProgress: checking.update,
})
checking.stop()
const rows = sampleRows(tokens.length, work.flops / tokens.length, 6e8)
const check = await checkRows(layer, reference, hiddenStates, result, rows)
reference.dispose()
print(`  ${describeCheck(check, paint)}`)

heading(
  '5. Which experts worked for which words',
  `one character per expert, #0 to #${config.numExperts - 1}; · = never`,
)
const byWord = routingByWord(tokens, result.topkIds, config.topK, config.numExperts)
print(...wordTable(byWord, 8, paint))
print(
  paint.dim(
    '  The vectors come from hashed letters and the words before, so like words in like company meet the same experts.',
  ),
)

heading('6. Expert load', `${tokens.length} tokens × ${config.topK} experts`)
print(...loadChart(work.expertTokens, paint, { top: 6 }))

heading('7. Saved against a dense layer of all the experts')
const oneToken = await layer.forward(hiddenStates.subarray(0, config.hiddenSize))
print(...savedTable(work, paint, [['for one token alone', oneToken.work]]))
if (!onReference) await compareWithDense()

heading(
  '8. Compute budget: fewer experts for an easy query',
  'layer.forward(hiddenStates, { topK: 2 }), { topP: 0.7 }',
)
await turnComputeBudget()
layer.dispose()

heading('Next')
print(
  `  npx sparse-experts run ${directory} --check`,
  '  npx sparse-experts run <a downloaded DeepSeek, Qwen, Mixtral, gpt-oss … checkpoint>',
)
if (!check.ok) process.exitCode = 1

/** Measured, on the same kernels: the same weights with every expert selected for every token. */
async function compareWithDense(): Promise<void> {
  const denseDirectory = await denseVariant(directory, SHAPE)
  try {
    const dense = await MoeLayer.load(denseDirectory, { layer: 1, device, dtype: layer.dtype })
    const some = hiddenStates.subarray(0, DENSE_TOKENS * config.hiddenSize)
    const sparseMs = (await timeRuns(() => layer.forward(some))).medianMs
    const denseMs = (await timeRuns(() => dense.forward(some))).medianMs
    dense.dispose()
    print(
      ...table([
        [
          paint.dim('measured'),
          `${formatDuration(sparseMs)} sparse, ${formatDuration(denseMs)} with all ${config.numExperts} experts selected ` +
            `(${Math.min(DENSE_TOKENS, tokens.length)} tokens, same kernels):`,
          paint.green(`${formatRatio(denseMs / sparseMs)} faster`),
        ],
      ]),
    )
  } finally {
    await rm(denseDirectory, { recursive: true, force: true })
  }
}

async function turnComputeBudget(): Promise<void> {
  const count = onReference ? 24 : tokens.length
  const some = takeRows(
    hiddenStates,
    config.hiddenSize,
    Array.from({ length: count }, (_, row) => row),
  )
  const lines: string[][] = [
    ['', 'experts per token', 'arithmetic', 'time', 'output moved by'].map(paint.dim),
  ]
  let full: Float32Array | undefined
  for (const computeBudget of [{}, { topK: 4 }, { topK: 2 }, { topP: 0.7 }]) {
    const timed = await timeRuns(() => layer.forward(some, computeBudget))
    full ??= timed.result.output
    const used = timed.result.work.expertTokens.reduce((a, b) => a + b, 0) / count
    const [[name, value] = ['as trained', '']] = Object.entries(computeBudget)
    lines.push([
      `${name} ${value}`.trim(),
      used.toFixed(1),
      formatPercent(timed.result.work.flops / ((work.flops / tokens.length) * count)),
      formatDuration(timed.medianMs),
      formatPercent(relativeError(timed.result.output, full)),
    ])
  }
  print(...table(lines, 'lrrrr'))
  print(
    paint.dim('  With random weights every expert matters alike; what a trained model loses: npm run demo.'),
  )
}
