/**
 * `npm run model [-- --check]`: predicts each kernel's time from bytes, FLOPs and data-sheet limits and writes docs/performance/model.md.
 * With --check it compares the file with what it would write.
 *
 * Nothing here is measured and nothing is fitted: every factor stands in ASSUMPTIONS with its reason.
 */

import { readFileSync, writeFileSync } from 'node:fs'
import path from 'node:path'
import type { MoeConfig } from '../harness/package.js'
import { SHAPES, sharedSize } from '../harness/shapes.js'

interface Gpu {
  name: string
  /** Dense bf16 with f32 accumulation, FLOP/s. */
  matrix: number
  /** Bytes/s. */
  memory: number
  multiprocessors: number
  /** Boost clock, Hz. */
  clock: number
  l2Bytes: number
  /** Share of the matrix rate that mma.sync reaches in full tiles. */
  mmaShare: number
}

const GPUS: readonly Gpu[] = [
  {
    name: 'A100-80GB SXM',
    matrix: 312e12,
    memory: 2.039e12,
    multiprocessors: 108,
    clock: 1.41e9,
    l2Bytes: 40 * 2 ** 20,
    mmaShare: 0.7,
  },
  {
    name: 'H200 SXM',
    matrix: 989e12,
    memory: 4.8e12,
    multiprocessors: 132,
    clock: 1.755e9,
    l2Bytes: 50 * 2 ** 20,
    mmaShare: 0.4,
  },
]

const TOKENS = [1, 8, 64, 512, 4096] as const
const ELEMENT = 2 // bf16

const ASSUMPTIONS = {
  /** Streams of full cache lines reach this share of the data-sheet bandwidth. */
  memoryShare: 0.88,
  /** From one kernel's last block to the next one's first loads, in a replayed graph. */
  kernelSeconds: 2e-6,
  /** Bytes that must be in flight before the memory is busy: below, a kernel waits for single loads. */
  latencySeconds: 0.8e-6,
  /** Sums of the router's matmul over hidden columns of this many elements each: its f32 splits go through memory. */
  gateSplitColumns: 512,
  /** Multiply-adds per clock and multiprocessor in f32, and the share of them that the gate reaches. */
  fmaPerClock: 128,
  fmaShare: 0.4,
  /** Instructions per clock and multiprocessor that selection sustains (of 4). */
  instructionsPerClock: 2,
} as const

interface Kernel {
  stage: string
  launches: number
  bytes: number
  /** On the matrix units. */
  matrixFlops: number
  /** Multiply-adds on the f32 units. */
  fma: number
  /** Warp instructions. */
  instructions: number
}

/** Expected number of distinct experts hit, each token choosing top_k of them alike. */
function activeExperts(config: MoeConfig, numTokens: number): number {
  return config.numExperts * (1 - (1 - config.topK / config.numExperts) ** numTokens)
}

/** Expected slots after each expert's are rounded up to whole groups of 8: what the matrix units multiply. */
function paddedSlots(config: MoeConfig, numTokens: number): number {
  const p = config.topK / config.numExperts
  if (p >= 1) return config.numExperts * Math.ceil(numTokens / 8) * 8
  // Binomial, by its recurrence in logarithms: 4096 tokens would underflow.
  let expected = 0
  let logTerm = numTokens * Math.log1p(-p)
  for (let n = 0; n <= numTokens; n++) {
    expected += Math.exp(logTerm) * Math.ceil(n / 8) * 8
    if (n < numTokens) logTerm += Math.log((numTokens - n) / (n + 1)) + Math.log(p) - Math.log1p(-p)
  }
  return expected * config.numExperts
}

function kernelsOf(config: MoeConfig, numTokens: number): Kernel[] {
  const { hiddenSize: h, intermediateSize: i, numExperts: e, topK: k } = config
  const shared = sharedSize(config)
  const slots = numTokens * k
  const active = activeExperts(config, numTokens)
  const padded = paddedSlots(config, numTokens)
  const sharedPadded = shared > 0 ? Math.ceil(numTokens / 8) * 8 : 0
  const splits = Math.max(1, Math.ceil(h / ASSUMPTIONS.gateSplitColumns))
  const partials = splits * numTokens * e * 4
  return [
    {
      stage: 'gate',
      launches: 1,
      bytes: e * h * 4 + numTokens * h * ELEMENT + partials,
      matrixFlops: 0,
      fma: numTokens * e * h,
      instructions: 0,
    },
    {
      stage: 'select',
      launches: 1,
      bytes: partials + slots * 8,
      matrixFlops: 0,
      fma: 0,
      // Per token and 32 experts: load, sum the splits, score; then k rounds of compare, each with a butterfly of 5 shuffles.
      instructions: numTokens * (Math.ceil(e / 32) * (30 + 4 * splits + 4 * k) + 40 * k),
    },
    {
      stage: 'dispatch',
      launches: slots <= 4096 ? 1 : 3,
      bytes: slots * 4 * (slots <= 4096 ? 2 : 4) + (e + 1) * 12,
      matrixFlops: 0,
      fma: 0,
      instructions: 0,
    },
    {
      stage: 'gate and up',
      launches: 1,
      bytes: (active * 2 * i * h + 2 * shared * h + numTokens * h + slots * i + numTokens * shared) * ELEMENT,
      matrixFlops: 2 * 2 * h * (padded * i + sharedPadded * shared),
      fma: 0,
      instructions: 0,
    },
    {
      stage: 'down',
      launches: 1,
      bytes:
        (active * i * h + shared * h + slots * i + numTokens * shared) * ELEMENT +
        (slots + (shared > 0 ? numTokens : 0)) * h * 4,
      matrixFlops: 2 * h * (padded * i + sharedPadded * shared),
      fma: 0,
      instructions: 0,
    },
    {
      stage: 'combine',
      launches: 1,
      bytes: (slots + (shared > 0 ? numTokens : 0)) * h * 4 + numTokens * h * ELEMENT,
      matrixFlops: 0,
      fma: 0,
      instructions: 0,
    },
  ]
}

interface Prediction {
  seconds: number
  bound: 'memory' | 'matrix' | 'instructions' | 'launch'
}

function predict(kernel: Kernel, gpu: Gpu): Prediction {
  const a = ASSUMPTIONS
  const units = gpu.multiprocessors * gpu.clock
  const candidates: [Prediction['bound'], number][] = [
    ['memory', kernel.bytes / (gpu.memory * a.memoryShare)],
    ['matrix', kernel.matrixFlops / (gpu.matrix * gpu.mmaShare)],
    [
      'instructions',
      kernel.fma / (units * a.fmaPerClock * a.fmaShare) +
        kernel.instructions / (units * a.instructionsPerClock),
    ],
  ]
  const [bound, busy] = candidates.reduce((most, next) => (next[1] > most[1] ? next : most))
  const overhead = kernel.launches * (a.kernelSeconds + a.latencySeconds)
  return { seconds: overhead + busy, bound: busy > overhead ? bound : 'launch' }
}

// ---- the page -------------------------------------------------------------------------------------------------------------------

const us = (seconds: number) => (seconds * 1e6).toFixed(seconds < 1e-4 ? 1 : 0)
const mb = (bytes: number) => (bytes / 1e6).toFixed(bytes < 1e7 ? 2 : bytes < 1e9 ? 1 : 0)

function table(head: readonly string[], rows: readonly (readonly string[])[]): string[] {
  const line = (cells: readonly string[]) => `| ${cells.join(' | ')} |`
  return [line(head), line(head.map((_, column) => (column === 0 ? '---' : '---:'))), ...rows.map(line)]
}

function shapeSection(name: string, config: MoeConfig): string[] {
  const { hiddenSize, intermediateSize, numExperts, topK, numSharedExperts } = config
  const lines = [
    `## ${name}`,
    '',
    `H ${hiddenSize}, I ${intermediateSize}, E ${numExperts}, K ${topK}${numSharedExperts ? `, ${numSharedExperts} shared` : ''}.`,
    '',
  ]
  const work = TOKENS.flatMap(numTokens =>
    kernelsOf(config, numTokens).map(kernel => [
      String(numTokens),
      kernel.stage,
      mb(kernel.bytes),
      ((kernel.matrixFlops + 2 * kernel.fma) / 1e9).toFixed(3),
      ...GPUS.map(gpu => {
        const { seconds, bound } = predict(kernel, gpu)
        return `${us(seconds)} (${bound})`
      }),
    ]),
  )
  lines.push(...table(['T', 'kernel', 'MB', 'GFLOP', ...GPUS.map(gpu => `${gpu.name}, µs`)], work), '')
  const totals = TOKENS.map(numTokens => {
    const kernels = kernelsOf(config, numTokens)
    const weightBytes =
      (activeExperts(config, numTokens) * intermediateSize + sharedSize(config)) * 3 * hiddenSize * ELEMENT
    const cells = GPUS.flatMap(gpu => {
      const seconds = kernels.map(kernel => predict(kernel, gpu).seconds)
      const total = seconds.reduce((sum, value) => sum + value, 0)
      const routing = seconds[0]! + seconds[1]! + seconds[2]!
      const flops = kernels.reduce((sum, kernel) => sum + kernel.matrixFlops, 0)
      return [
        us(total),
        `${((100 * weightBytes) / total / gpu.memory).toFixed(0)} %`,
        (flops / total / 1e12).toFixed(0),
        `${((100 * routing) / total).toFixed(0)} %`,
      ]
    })
    return [String(numTokens), activeExperts(config, numTokens).toFixed(1), mb(weightBytes), ...cells]
  })
  const columns = GPUS.flatMap(gpu => [
    `${gpu.name}: layer, µs`,
    'bandwidth',
    'TFLOP/s',
    'routing and dispatch',
  ])
  lines.push(...table(['T', 'experts hit', 'weights, MB', ...columns], totals), '')
  return lines
}

function page(): string {
  const a = ASSUMPTIONS
  return [
    '# Predicted time of the CUDA kernels',
    '',
    '**Not measured.** These are predictions from counted bytes and FLOPs, written before any of the kernels had run on a GPU, to be checked',
    'against the first measurements (`tools/release/gpu-check`). Written by `npm run model` (`bench/gpu/predict-times.ts`); do not edit.',
    '',
    'bf16 weights and activations, uniform routing, input and output on the device, one graph replay. A kernel takes',
    '`launches × overhead + max(bytes ÷ bandwidth, FLOPs ÷ matrix rate, instructions ÷ issue rate)`; bytes are those that must cross the memory bus',
    'at least once: each weight of an expert that has a token, each intermediate written and read. Reading a weight again for a second tile of tokens is',
    'taken to hit L2.',
    '',
    '## Assumptions',
    '',
    ...table(
      ['data sheet', ...GPUS.map(gpu => gpu.name)],
      [
        ['bf16 dense, TFLOP/s', ...GPUS.map(gpu => (gpu.matrix / 1e12).toFixed(0))],
        ['memory, TB/s', ...GPUS.map(gpu => (gpu.memory / 1e12).toFixed(3))],
        ['multiprocessors', ...GPUS.map(gpu => String(gpu.multiprocessors))],
        ['boost clock, GHz', ...GPUS.map(gpu => (gpu.clock / 1e9).toFixed(3))],
        ['L2, MiB', ...GPUS.map(gpu => String(gpu.l2Bytes / 2 ** 20))],
      ],
    ),
    '',
    ...table(
      ['assumed', 'value', 'why'],
      [
        [
          'share of the memory bandwidth',
          `${a.memoryShare}`,
          'what large copies reach; decode streams weights once',
        ],
        [
          'share of the matrix rate, A100',
          `${GPUS[0]!.mmaShare}`,
          'mma.sync fed by ldmatrix and cp.async in tiles of 64 to 128: loads, epilogue and tail waves take the rest',
        ],
        [
          'share of the matrix rate, H200',
          `${GPUS[1]!.mmaShare}`,
          'there mma.sync alone reaches some 60 % of what wgmma does; times the same losses',
        ],
        [
          'one kernel after another in a graph',
          `${a.kernelSeconds * 1e6} µs`,
          'drain of one, launch of the next',
        ],
        [
          'first loads',
          `${us(a.latencySeconds)} µs`,
          'two dependent trips to memory before a kernel streams',
        ],
        [
          'router sums',
          `splits of ${a.gateSplitColumns} columns`,
          'fixed by the hidden size, so that a row is batch invariant',
        ],
        [
          'gate',
          `${a.fmaPerClock} × ${a.fmaShare} multiply-adds per clock and multiprocessor`,
          'f32 multiply-adds: logits decide ids',
        ],
        [
          'selection',
          `${a.instructionsPerClock} warp instructions per clock and multiprocessor`,
          'one warp per token, shuffles',
        ],
        [
          'padding',
          'each expert’s tokens to a multiple of 8',
          'expected value under the binomial distribution',
        ],
      ],
    ),
    '',
    'Columns below: *bandwidth* is the weights’ bytes over the layer’s time as a share of the data sheet; *routing and dispatch* is the share of',
    'gate, select and dispatch in it. A kernel is named "launch" bound where its overhead exceeds its work.',
    '',
    ...SHAPES.filter(([name]) => name !== 'small').flatMap(([name, config]) => shapeSection(name, config)),
    '## What the predictions say',
    '',
    ...conclusions(),
    '',
  ].join('\n')
}

/** The goals that the kernels are built for, as the model sees them on the second GPU of the table. */
function conclusions(): string[] {
  const gpu = GPUS[1]!
  const shapes = SHAPES.filter(([name]) => name !== 'small')
  const total = (config: MoeConfig, numTokens: number, stages?: readonly string[]) =>
    kernelsOf(config, numTokens)
      .filter(kernel => !stages || stages.includes(kernel.stage))
      .reduce((sum, kernel) => sum + predict(kernel, gpu).seconds, 0)
  const routing = ['gate', 'select', 'dispatch']
  const share = (config: MoeConfig) => total(config, 4096, routing) / total(config, 4096)
  const percent = (value: number) => `${(100 * value).toFixed(0)} %`
  const decode = shapes.map(([, config]) => total(config, 1, routing))
  const misses = shapes.filter(([, config]) => share(config) > 0.05)
  const matrixBound = (numTokens: number) =>
    shapes
      .filter(([, config]) =>
        kernelsOf(config, numTokens).some(kernel => predict(kernel, gpu).bound === 'matrix'),
      )
      .map(([name]) => name)
  const launches = kernelsOf(shapes[0]![1], 1).reduce((sum, kernel) => sum + kernel.launches, 0)
  const overhead = launches * (ASSUMPTIONS.kernelSeconds + ASSUMPTIONS.latencySeconds)
  const bound = TOKENS.map(numTokens => {
    const names = matrixBound(numTokens)
    if (names.length === 0) return `T = ${numTokens}: none`
    return `T = ${numTokens}: ${names.length === shapes.length ? 'all' : names.join(', ')}`
  })
  return [
    `All for the ${gpu.name}.`,
    '',
    `- At one token the overhead of ${launches} kernels is ${us(overhead)} µs whatever the shape; it exceeds the time of the weights where they are less than`,
    `  ${mb(overhead * gpu.memory * ASSUMPTIONS.memoryShare)} MB. Such a layer needs fewer kernels, not faster ones.`,
    `- Routing and dispatch at one token: ${us(Math.min(...decode))} to ${us(Math.max(...decode))} µs (goal: under 10).`,
    `- Routing and dispatch at 4096 tokens (goal: under 5 % of the layer): ${shapes.map(([name, config]) => `${name} ${percent(share(config))}`).join(', ')}.`,
    ...(misses.length > 0
      ? [
          `  The goal is missed for ${misses.map(([name]) => name).join(' and ')}: the router's f32 multiply-adds grow with E while the experts' work does not.`,
        ]
      : []),
    `- Shapes with a kernel that the matrix rate bounds: ${bound.join('; ')}. All else is bound by memory or by launches.`,
    '- Where the matrix rate bounds, it is that of mma.sync and not the GPU’s: wgmma would be the step after.',
  ]
}

const file = path.join(import.meta.dirname, '../../docs/performance/model.md')
const text = page()
if (process.argv.includes('--check')) {
  if (readFileSync(file, 'utf8') !== text) {
    console.error('docs/performance/model.md is not what bench/gpu/predict-times.ts says: npm run model')
    process.exit(1)
  }
  console.log('model: docs/performance/model.md is up to date')
} else {
  writeFileSync(file, text)
  console.log(`model: ${path.relative(process.cwd(), file)}`)
}
