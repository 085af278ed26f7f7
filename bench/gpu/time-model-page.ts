/** docs/performance/model.md: the predictions of time-model.ts as tables, and what follows from them. */

import type { MoeConfig } from '../harness/package.js'
import { SHAPES, sharedSize } from '../harness/shapes.js'
import {
  ASSUMPTIONS,
  activeExperts,
  ELEMENT,
  GPUS,
  kernelsOf,
  predict,
  TOKENS,
  wgmmaWidth,
} from './time-model.js'
import { epilogueClocks, stagesOf, stepClocks, WGMMA } from './wgmma-model.js'

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
      (kernel.matrixFlops / 1e9).toFixed(3),
      ...GPUS.map(gpu => {
        const { seconds, bound } = predict(kernel, gpu)
        const width = bound === 'wgmma' ? ` ${wgmmaWidth(kernel, gpu)}` : ''
        return `${us(seconds)} (${bound}${width})`
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
      const flops = kernels.reduce((sum, kernel) => sum + (kernel.matmul ? kernel.matrixFlops : 0), 0)
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

/** What a tile on wgmma is made of. */
function wgmmaSection(): string[] {
  const rows = [64, 128, 192, 256].map(width => {
    const { products, shared, l2 } = stepClocks(width)
    const slowest = Math.max(products, shared, l2)
    return [
      String(width),
      String(stagesOf(width)),
      ...[products, shared, l2].map(clocks => clocks.toFixed(0)),
      `${((100 * products) / slowest).toFixed(0)} %`,
      epilogueClocks(width, true).toFixed(0),
      epilogueClocks(width, false).toFixed(0),
    ]
  })
  return [
    '## Tiles on wgmma',
    '',
    'On sm_90 a matmul of more than 24 tokens per expert runs on warp groups ([0023](../adr/0023-warp-groups-on-hopper.md)). **Not measured**: no card has',
    'run it. Clocks of a multiprocessor, counted from the source: a step multiplies 128 weight rows by the tile’s tokens over 64 of K, and its time is',
    'the longest of the three; the end of a tile (outputs) follows its last step. Below, such a kernel is bound by "wgmma" and the tokens of its tile.',
    '',
    ...table(
      [
        'tokens',
        'stages',
        'products',
        'shared memory',
        'L2',
        'matrix rate at most',
        'end, gate and up',
        'end, down',
      ],
      rows,
    ),
    '',
    `- products: ${WGMMA.multiplyAddsPerClock} multiply-adds per clock; shared memory: ${WGMMA.sharedBytesPerClock} bytes per clock, each stage written once, its weights read once and its tokens`,
    `  by both groups; L2: ${WGMMA.l2BytesPerClock} bytes per clock and multiprocessor, which nobody has measured here.`,
    `- end: sums through shared memory and back, and ${WGMMA.instructionsOfFour.gated} (gate and up) or ${WGMMA.instructionsOfFour.plain} (down) instructions for 4 outputs of a thread, ${WGMMA.instructionsPerClock} per clock.`,
    '- The tiles of all experts are an expected value; half a tile is added for multiprocessors that have none at the end.',
    '- The clock is the boost clock. A card that multiplies all the time comes to its power limit and clocks lower, which is in none of these figures.',
    '',
  ]
}

/** The page's text. */
export function page(): string {
  const a = ASSUMPTIONS
  return [
    '# Predicted time of the CUDA kernels',
    '',
    '**Not measured.** These are predictions from counted bytes, FLOPs and instructions, to be checked against measurements (`tools/release/gpu-check`).',
    'What one run on an H200 measured, of an older revision, is in [CUDA](../cuda.md). Written by `npm run model` (`bench/gpu/predict-times.ts`); do not',
    'edit.',
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
          'share of the matrix rate, H200, mma.sync',
          `${GPUS[1]!.mmaShare}`,
          'there mma.sync alone reaches some 60 % of what wgmma does; times the same losses. For few tokens per expert',
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
          `${a.routerParts} products of bf16 for each weight, tiles of ${a.routerTiles.map(tile => tile.join(' × ')).join(' or ')}`,
          'an f32 weight in parts, without a rounding; tiles of tokens × experts read their rows from L2 at the rate below',
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
    ...wgmmaSection(),
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
        kernelsOf(config, numTokens).some(kernel => ['matrix', 'wgmma'].includes(predict(kernel, gpu).bound)),
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
          `  The goal is missed for ${misses.map(([name]) => name).join(' and ')}: the router's products grow with E while the experts' work does not.`,
        ]
      : []),
    `- Shapes with a kernel that the matrix rate bounds: ${bound.join('; ')}. All else is bound by memory or by launches.`,
    '- Where products bound, tiles of few tokens are bound by shared memory and L2 before them: 64 tokens reach half of the matrix rate at most.',
  ]
}
