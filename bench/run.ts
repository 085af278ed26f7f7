/**
 * Whole-layer benchmark over the published shapes: every device side by side in one run, as ratios to the reference.
 *
 *   npm run bench -- [--filter Qwen] [--device cpu,reference] [--dtype bf16,f32] [--tokens 1,64] [--threads N] [--json out.json] [--quick]
 *
 * Shared machines are noisy: medians, and ratios within one run, are what to compare.
 */

import { execFileSync } from 'node:child_process'
import { writeFileSync } from 'node:fs'
import os from 'node:os'
import { parseArgs } from 'node:util'
import { Bench } from 'tinybench'
import { type DType, devices, MoeLayer } from '../lib/index.js'
import { type LayerCase, MODEL_SHAPES } from '../test/cases.js'
import { makeLayerData } from '../test/helpers/layer-data.js'

const { values: options } = parseArgs({
  options: {
    filter: { type: 'string', default: '' },
    device: { type: 'string', default: '' },
    dtype: { type: 'string', default: 'f32,bf16,f16' },
    tokens: { type: 'string', default: '1,8,64,512' },
    threads: { type: 'string', default: '0' },
    json: { type: 'string' },
    quick: { type: 'boolean', default: false },
  },
})

/** A reference forward of more multiply-adds than this takes minutes; its row says so instead. */
const REFERENCE_FLOPS = 4e9

interface Row {
  shape: string
  device: string
  dtype: DType
  numTokens: number
  medianMs: number
  p99Ms: number
  samples: number
  tokensPerSecond: number
  gflops: number
  weightGBs: number
  /** Tokens/s over the reference's in the same run; its time is linear in T, so a T too long for it is compared with its longest. */
  timesReference: number | null
}

const list = (text: string) => text.split(',').filter(Boolean)
const asked = list(options.device)
const served = devices().filter(
  device => device.available && (asked.length === 0 || asked.includes(device.id)),
)
const shapes = Object.entries(options.quick ? { small: MODEL_SHAPES.small } : MODEL_SHAPES).filter(
  ([name]) =>
    name.toLowerCase().includes(options.filter.toLowerCase()) && (options.filter || name !== 'Mixtral-8x7B'),
)
const tokenCounts = list(options.quick ? '1,16' : options.tokens).map(Number)
const rows: Row[] = []

for (const device of devices()) {
  if (!device.available) console.log(`${device.id}: not measured (${device.reason?.split('\n')[0]})`)
}
const { model } = os.cpus()[0] ?? { model: 'unknown CPU' }
console.log(
  `${model}, ${os.availableParallelism()} threads, ${served.map(d => `${d.id} ${d.architecture}`).join(', ')}\n`,
)
console.log(
  `${'shape'.padEnd(18)}${'device'.padEnd(11)}${'dtype'.padEnd(6)}${'T'.padStart(5)}${'median ms'.padStart(12)}${'p99 ms'.padStart(12)}` +
    `${'tokens/s'.padStart(11)}${'GFLOP/s'.padStart(9)}${'GB/s'.padStart(8)}${'x reference'.padStart(13)}`,
)

for (const [shape, config] of shapes) {
  for (const dtype of list(options.dtype) as DType[]) {
    const most: LayerCase = { name: shape, config, numTokens: Math.max(...tokenCounts), load: 'gate' }
    const data = makeLayerData(most, dtype)
    const referenceSpeed = new Map<number, number>()
    for (const device of [...served].sort(
      (a, b) => (b.id === 'reference' ? 1 : 0) - (a.id === 'reference' ? 1 : 0),
    )) {
      const layer = MoeLayer.create(data.config, data.weights, {
        device: device.id as 'cpu',
        dtype,
        threads: Number(options.threads),
      })
      for (const numTokens of tokenCounts) {
        if (device.id === 'reference' && layer.explain(numTokens).flops > REFERENCE_FLOPS) continue
        const row = await measure(layer, shape, data.hidden.subarray(0, numTokens * config.hiddenSize))
        if (device.id === 'reference') referenceSpeed.set(numTokens, row.tokensPerSecond)
        const comparable = [...referenceSpeed.keys()].filter(tokens => tokens <= numTokens)
        const speed = referenceSpeed.get(Math.max(...comparable))
        row.timesReference = speed === undefined ? null : row.tokensPerSecond / speed
        rows.push(row)
        print(row)
      }
      layer.dispose()
    }
  }
}

if (options.json) {
  const revision = git('rev-parse', 'HEAD') + (git('status', '--porcelain') ? '+changes' : '')
  const environment = {
    cpu: model,
    threads: os.availableParallelism(),
    node: process.version,
    devices: served,
  }
  writeFileSync(
    options.json,
    `${JSON.stringify({ date: new Date().toISOString(), revision, environment, rows }, null, 2)}\n`,
  )
}

async function measure(layer: MoeLayer, shape: string, hidden: Float32Array): Promise<Row> {
  const slow = layer.device === 'reference'
  const bench = new Bench({
    time: options.quick ? 50 : 400,
    iterations: slow ? 1 : 5,
    warmup: !slow,
    warmupIterations: 1,
    warmupTime: 0,
  })
  bench.add('forward', () => layer.forwardSync(hidden))
  const { work, numTokens } = layer.forwardSync(hidden)
  await bench.run()
  const result = bench.tasks[0]?.result
  if (!result || !('latency' in result)) throw new Error(`The benchmark of ${shape} failed`)
  const { p50, p99, samplesCount } = result.latency
  const seconds = p50 / 1000
  return {
    shape,
    device: layer.device,
    dtype: layer.dtype,
    numTokens,
    medianMs: p50,
    p99Ms: p99,
    samples: samplesCount,
    tokensPerSecond: numTokens / seconds,
    gflops: work.flops / seconds / 1e9,
    weightGBs: work.weightBytes / seconds / 1e9,
    timesReference: null,
  }
}

function print(row: Row): void {
  const number = (value: number, width: number, digits = 1) => value.toFixed(digits).padStart(width)
  console.log(
    row.shape.padEnd(18) +
      row.device.padEnd(11) +
      row.dtype.padEnd(6) +
      String(row.numTokens).padStart(5) +
      number(row.medianMs, 12, 3) +
      number(row.p99Ms, 12, 3) +
      number(row.tokensPerSecond, 11, 0) +
      number(row.gflops, 9) +
      number(row.weightGBs, 8) +
      (row.timesReference === null ? '–'.padStart(13) : number(row.timesReference, 13, 0)),
  )
}

function git(...args: string[]): string {
  try {
    return execFileSync('git', args, { encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore'] }).trim()
  } catch {
    return ''
  }
}
