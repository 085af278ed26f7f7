/**
 * The CUDA backend against this machine's limits and against PyTorch, over the published shapes:
 *
 *   tsx bench/gpu/measure-gpu.ts --program build/gpu/cuda_bench --json out.json [--shapes Qwen,Mixtral] [--tokens 1,64] [--seconds 500]
 *       [--variants eager,grouped_mm,compiled] [--no-torch]
 *
 * Each shape is one run of cuda_bench (bench/gpu/bench.cc) and, where PyTorch is, of torch_baseline.py on the inputs that it left. Shapes that
 * the time does not allow are named in the result.
 */

import { spawnSync } from 'node:child_process'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import os from 'node:os'
import path from 'node:path'
import { parseArgs } from 'node:util'
import { SHAPES, shapeArgument } from '../harness/shapes.js'

const { values: options } = parseArgs({
  options: {
    program: { type: 'string', default: 'build/gpu/cuda_bench' },
    python: { type: 'string', default: 'python3' },
    json: { type: 'string' },
    shapes: { type: 'string', default: '' },
    tokens: { type: 'string', default: '1,16,64,512,4096' },
    routing: { type: 'string', default: 'uniform,zipf' },
    replays: { type: 'string', default: '15' },
    forwards: { type: 'string', default: '16' },
    seconds: { type: 'string', default: '500' },
    variants: { type: 'string', default: 'eager,grouped_mm,compiled' },
    'no-torch': { type: 'boolean', default: false },
  },
})

interface Limits {
  gpu: string
  architecture: string
  multiprocessors: number
  copyGBs: number
  mmaSyncTflops: number
  torch?: string
  matrixTflops?: number
}
interface OurRow {
  shape: string
  tokens: number
  routing: string
  weightBytes: number
  flops: number
  coldUs: number
  warmUs: number
  hostUs: number
  kernels: { name: string; coldUs: number }[]
}
interface TorchRow {
  shape: string
  tokens: number
  routing: string
  variant: 'eager' | 'grouped_mm' | 'compiled'
  coldUs?: number
  warmUs?: number
  relativeDistance?: number
  failed?: string
  skipped?: string
}

const end = Date.now() + Number(options.seconds) * 1000
const secondsLeft = () => (end - Date.now()) / 1000

/** The JSON objects that a program prints, one per line. A program that fails gives what it printed until then. */
function jsonLines(
  command: string,
  args: readonly string[],
): { rows: Record<string, unknown>[]; status: number } {
  const timeout = Math.ceil(Math.max(1, secondsLeft()) * 1000)
  const { status, stdout, error } = spawnSync(command, args, {
    encoding: 'utf8',
    stdio: ['ignore', 'pipe', 'inherit'],
    timeout,
    maxBuffer: 1 << 28,
  })
  if (error && !('code' in error && error.code === 'ETIMEDOUT')) throw error
  const rows = (stdout ?? '')
    .split('\n')
    .filter(line => line.startsWith('{') && line.endsWith('}'))
    .map(line => JSON.parse(line) as Record<string, unknown>)
  return { rows, status: status ?? 1 }
}

const program = path.resolve(options.program)
const measured = jsonLines(program, ['--limits'])
if (measured.status !== 0 || !measured.rows[0]) process.exit(measured.status || 1)
const limits = measured.rows[0] as unknown as Limits
console.log(
  `${limits.gpu} (${limits.architecture}): copies ${limits.copyGBs.toFixed(0)} GB/s, mma.sync ${limits.mmaSyncTflops.toFixed(0)} TFLOP/s`,
)

const wanted = options.shapes.split(',').filter(Boolean)
const shapes = SHAPES.filter(([name]) =>
  wanted.length > 0 ? wanted.some(word => name.includes(word)) : name !== 'small',
)
const ours: OurRow[] = []
const torch: TorchRow[] = []
const notRun: string[] = []
let torchStatus = options['no-torch'] ? 'switched off' : 'compared'

const head = ['shape', 'T', 'routing', 'cold µs', 'warm µs', 'host µs', 'GB/s', '% copy', 'TFLOP/s', '% mma']
const baselines = ['eager', 'grouped_mm', 'compiled'] as const

/** Prints a row's line, beside PyTorch's times of the same case. */
function compare(row: OurRow) {
  const gbs = row.weightBytes / row.coldUs / 1e3
  const tflops = row.flops / row.coldUs / 1e6
  const times = Object.fromEntries(
    baselines.map(variant => {
      const match = torch.find(
        other =>
          other.shape === row.shape &&
          other.tokens === row.tokens &&
          other.routing === row.routing &&
          other.variant === variant,
      )
      return [variant, match?.coldUs === undefined ? null : match.coldUs / row.coldUs]
    }),
  )
  const result = {
    ...row,
    weightGBs: gbs,
    shareOfCopyBandwidth: gbs / limits.copyGBs,
    tflops,
    shareOfMmaSyncRate: tflops / limits.mmaSyncTflops,
    ...(limits.matrixTflops && { shareOfMatrixRate: tflops / limits.matrixTflops }),
    timesFasterThan: times,
  }
  console.log(
    [
      row.shape,
      row.tokens,
      row.routing,
      row.coldUs.toFixed(1),
      row.warmUs.toFixed(1),
      row.hostUs.toFixed(1),
      gbs.toFixed(0),
      (100 * result.shareOfCopyBandwidth).toFixed(0),
      tflops.toFixed(1),
      (100 * result.shareOfMmaSyncRate).toFixed(0),
      ...baselines.map(name => times[name]?.toFixed(2) ?? '–'),
    ].join('\t'),
  )
  return result
}

const rows: ReturnType<typeof compare>[] = []

/** After each shape: what was measured is not lost with what comes after it. */
function save() {
  if (!options.json) return
  const result = { date: new Date().toISOString(), limits, torchStatus, rows, torch, notRun }
  writeFileSync(options.json, `${JSON.stringify(result, null, 1)}\n`)
}

console.log([...head, ...baselines.map(name => `× ${name}`)].join('\t'))
for (const [index, [name, config]] of shapes.entries()) {
  if (secondsLeft() < 20) {
    notRun.push(name)
    continue
  }
  const directory = mkdtempSync(path.join(os.tmpdir(), 'cuda-bench-'))
  try {
    const common = [
      '--shape',
      shapeArgument(name, config),
      '--tokens',
      options.tokens,
      '--routing',
      options.routing,
    ]
    const withTorch = torchStatus === 'compared'
    const our = jsonLines(program, [
      ...common,
      ...['--replays', options.replays, '--forwards', options.forwards],
      ...(withTorch ? ['--dump', directory] : []),
    ])
    ours.push(...(our.rows as unknown as OurRow[]))
    if (our.status !== 0) {
      console.error(`cuda_bench: ${name} ended with status ${our.status}`)
      notRun.push(name)
      continue
    }
    if (!withTorch) continue
    // What is left is shared among the shapes to come.
    const seconds = Math.max(10, secondsLeft() / (shapes.length - index) - 15)
    const script = path.join(import.meta.dirname, 'torch_baseline.py')
    const theirs = jsonLines(options.python, [
      script,
      ...common,
      ...['--directory', directory, '--seconds', String(seconds)],
      ...['--variants', options.variants],
    ])
    for (const row of theirs.rows) {
      if ('matrixTflops' in row) Object.assign(limits, row)
      else torch.push(row as unknown as TorchRow)
    }
    if (theirs.status === 3) torchStatus = 'no PyTorch with a CUDA device here'
  } finally {
    rows.push(...ours.slice(rows.length).map(compare))
    save()
    rmSync(directory, { recursive: true, force: true })
  }
}

for (const row of torch.filter(other => other.failed || other.skipped)) {
  console.log(`${row.shape} T=${row.tokens} ${row.routing} ${row.variant}: ${row.failed ?? row.skipped}`)
}
const farthest = torch.reduce((most, row) => Math.max(most, row.relativeDistance ?? 0), 0)
if (torch.length > 0) console.log(`farthest output from PyTorch's: ${farthest.toExponential(2)} (relative)`)
if (torchStatus !== 'compared') console.log(`PyTorch: ${torchStatus}`)
if (notRun.length > 0) console.log(`not run for want of time or by failure: ${notRun.join(', ')}`)

save()
process.exit(rows.length > 0 ? 0 : 1)
