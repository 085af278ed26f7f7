/**
 * The time of each kernel of a layer on a GPU, from bytes, FLOPs and data-sheet limits. Nothing here is measured and nothing is fitted: every factor
 * stands in ASSUMPTIONS with its reason.
 */

import type { MoeConfig } from '../harness/package.js'
import { sharedSize } from '../harness/shapes.js'
import { takesWgmma, widthOf } from './choice.js'
import { tileClocks, WGMMA } from './wgmma-model.js'

export interface Gpu {
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
  /** Has wgmma, for calls of many tokens per expert. */
  hasWgmma: boolean
}

export const GPUS: readonly Gpu[] = [
  {
    name: 'A100-80GB SXM',
    matrix: 312e12,
    memory: 2.039e12,
    multiprocessors: 108,
    clock: 1.41e9,
    l2Bytes: 40 * 2 ** 20,
    mmaShare: 0.7,
    hasWgmma: false,
  },
  {
    name: 'H200 SXM',
    matrix: 989e12,
    memory: 4.8e12,
    multiprocessors: 132,
    clock: 1.755e9,
    l2Bytes: 50 * 2 ** 20,
    mmaShare: 0.4,
    hasWgmma: true,
  },
]

export const TOKENS = [1, 8, 64, 512, 4096] as const
/** Bytes of an element of bf16. */
export const ELEMENT = 2

export const ASSUMPTIONS = {
  /** Streams of full cache lines reach this share of the data-sheet bandwidth. */
  memoryShare: 0.88,
  /** From one kernel's last block to the next one's first loads, in a replayed graph. */
  kernelSeconds: 2e-6,
  /** Bytes that must be in flight before the memory is busy: below, a kernel waits for single loads. */
  latencySeconds: 0.8e-6,
  /** Sums of the router's matmul over hidden columns of this many elements each: its f32 splits go through memory. */
  gateSplitColumns: 512,
  /** bf16 parts of a router weight in f32, each of which is multiplied. */
  routerParts: 3,
  /** Tokens and experts of the router's tiles: the small one, and the large one where it fills a GPU with its 216 blocks. */
  routerTiles: [
    [16, 8],
    [32, 32],
  ],
  /** Instructions per clock and multiprocessor that selection sustains (of 4). */
  instructionsPerClock: 2,
} as const

export interface Kernel {
  stage: string
  launches: number
  bytes: number
  /** On the matrix units, padding included. */
  matrixFlops: number
  /** From L2 into multiprocessors, where that could be what takes longest. */
  l2Bytes: number
  /** Warp instructions. */
  instructions: number
  /** Of an expert matmul: what its tiles are made of. */
  matmul?: Matmul
}

/** The routed experts' matmul, and the shared one's beside it. */
export interface Matmul {
  numTokens: number
  gated: boolean
  /** K, the same for both. */
  cols: number
  routed: { rows: number; probability: number; experts: number }
  /** Rows 0: no shared expert. */
  shared: { rows: number; cols: number }
}

/** Expected number of distinct experts hit, each token choosing top_k of them alike. */
export function activeExperts(config: MoeConfig, numTokens: number): number {
  return config.numExperts * (1 - (1 - config.topK / config.numExperts) ** numTokens)
}

/**
 * Expected number of groups of `size` tokens, of all experts together: an expert's last group may be part full. Its tokens are binomial.
 */
export function expectedGroups(
  experts: number,
  probability: number,
  numTokens: number,
  size: number,
): number {
  if (probability >= 1) return experts * Math.ceil(numTokens / size)
  // By its recurrence in logarithms: 4096 tokens would underflow.
  let expected = 0
  let logTerm = numTokens * Math.log1p(-probability)
  for (let n = 0; n <= numTokens; n++) {
    expected += Math.exp(logTerm) * Math.ceil(n / size)
    if (n < numTokens)
      logTerm += Math.log((numTokens - n) / (n + 1)) + Math.log(probability) - Math.log1p(-probability)
  }
  return expected * experts
}

/** The router's tiles: what they multiply and what they read. */
function routerWork({ hiddenSize, numExperts }: MoeConfig, numTokens: number, splits: number) {
  const [small, large] = ASSUMPTIONS.routerTiles
  const tiles = ([tokens, experts]: readonly [number, number]) =>
    Math.ceil(numTokens / tokens) * Math.ceil(numExperts / experts)
  const isLarge =
    2 * numTokens * numExperts >= tiles(large) * large[0] * large[1] && tiles(large) * splits >= 216
  const tile = isLarge ? large : small
  return {
    matrixFlops: 2 * ASSUMPTIONS.routerParts * tiles(tile) * tile[0] * tile[1] * hiddenSize,
    l2Bytes: tiles(tile) * (tile[0] * ELEMENT + tile[1] * 4) * hiddenSize,
  }
}

export function kernelsOf(config: MoeConfig, numTokens: number): Kernel[] {
  const { hiddenSize: h, intermediateSize: i, numExperts: e, topK: k } = config
  const shared = sharedSize(config)
  const slots = numTokens * k
  const active = activeExperts(config, numTokens)
  // The matrix units multiply whole groups of 8.
  const padded = 8 * expectedGroups(e, k / e, numTokens, 8)
  const matmul = (gated: boolean): Matmul => ({
    numTokens,
    gated,
    cols: gated ? h : i,
    routed: { rows: gated ? i : h, probability: k / e, experts: e },
    shared: { rows: shared === 0 ? 0 : gated ? shared : h, cols: gated ? h : shared },
  })
  const sharedPadded = shared > 0 ? Math.ceil(numTokens / 8) * 8 : 0
  const splits = Math.max(1, Math.ceil(h / ASSUMPTIONS.gateSplitColumns))
  const partials = splits * numTokens * e * 4
  return [
    {
      stage: 'gate',
      launches: 1,
      bytes: e * h * 4 + numTokens * h * ELEMENT + partials,
      ...routerWork(config, numTokens, splits),
      instructions: 0,
    },
    {
      stage: 'select',
      launches: 1,
      bytes: partials + slots * 8,
      matrixFlops: 0,
      l2Bytes: 0,
      // Per token and 32 experts: load, sum the splits, score; then k rounds of compare, each with a butterfly of 5 shuffles.
      instructions: numTokens * (Math.ceil(e / 32) * (30 + 4 * splits + 4 * k) + 40 * k),
    },
    {
      stage: 'dispatch',
      launches: slots <= 4096 ? 1 : 3,
      bytes: slots * 4 * (slots <= 4096 ? 2 : 4) + (e + 1) * 12,
      matrixFlops: 0,
      l2Bytes: 0,
      instructions: 0,
    },
    {
      stage: 'gate and up',
      launches: 1,
      bytes: (active * 2 * i * h + 2 * shared * h + numTokens * h + slots * i + numTokens * shared) * ELEMENT,
      matrixFlops: 2 * 2 * h * (padded * i + sharedPadded * shared),
      l2Bytes: 0,
      instructions: 0,
      matmul: matmul(true),
    },
    {
      stage: 'down',
      launches: 1,
      bytes:
        (active * i * h + shared * h + slots * i + numTokens * shared) * ELEMENT +
        (slots + (shared > 0 ? numTokens : 0)) * h * 4,
      matrixFlops: 2 * h * (padded * i + sharedPadded * shared),
      l2Bytes: 0,
      instructions: 0,
      matmul: matmul(false),
    },
    {
      stage: 'combine',
      launches: 1,
      bytes: (slots + (shared > 0 ? numTokens : 0)) * h * 4 + numTokens * h * ELEMENT,
      matrixFlops: 0,
      l2Bytes: 0,
      instructions: 0,
    },
  ]
}

interface Prediction {
  seconds: number
  bound: 'memory' | 'matrix' | 'wgmma' | 'L2' | 'instructions' | 'launch'
}

/** Tokens of a tile where this matmul runs on wgmma; undefined where it runs on mma.sync. */
export function wgmmaWidth({ matmul }: Kernel, gpu: Gpu): number | undefined {
  if (!matmul || !gpu.hasWgmma) return undefined
  const perExpert = matmul.numTokens * matmul.routed.probability
  return takesWgmma(matmul.numTokens, perExpert) ? widthOf(perExpert) : undefined
}

/** Seconds of a matmul on wgmma: persistent blocks, one to a multiprocessor, whose tiles follow each other. */
function wgmmaSeconds(matmul: Matmul, width: number, gpu: Gpu): number {
  const { numTokens, gated, routed, shared } = matmul
  const outputs = gated ? 64 : 128
  const tiles = (rows: number, groups: number) => Math.ceil(rows / outputs) * groups
  const clocks =
    tiles(routed.rows, expectedGroups(routed.experts, routed.probability, numTokens, width)) *
      tileClocks(width, matmul.cols, gated) +
    tiles(shared.rows, Math.ceil(numTokens / width)) * tileClocks(width, shared.cols, gated)
  // The last tiles leave multiprocessors without work: half a tile on average.
  const last = tileClocks(width, matmul.cols, gated) / 2
  return (clocks / gpu.multiprocessors + last) / gpu.clock
}

export function predict(kernel: Kernel, gpu: Gpu): Prediction {
  const a = ASSUMPTIONS
  const units = gpu.multiprocessors * gpu.clock
  const width = wgmmaWidth(kernel, gpu)
  const candidates: [Prediction['bound'], number][] = [
    ['memory', kernel.bytes / (gpu.memory * a.memoryShare)],
    width === undefined
      ? ['matrix', kernel.matrixFlops / (gpu.matrix * gpu.mmaShare)]
      : ['wgmma', wgmmaSeconds(kernel.matmul!, width, gpu)],
    ['L2', kernel.l2Bytes / (units * WGMMA.l2BytesPerClock)],
    ['instructions', kernel.instructions / (units * a.instructionsPerClock)],
  ]
  const [bound, busy] = candidates.reduce((most, next) => (next[1] > most[1] ? next : most))
  const overhead = kernel.launches * (a.kernelSeconds + a.latencySeconds)
  return { seconds: overhead + busy, bound: busy > overhead ? bound : 'launch' }
}
