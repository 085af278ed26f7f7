/**
 * The time of each kernel of a layer on a GPU, from bytes, FLOPs and data-sheet limits. Nothing here is measured and nothing is fitted: every factor
 * stands in ASSUMPTIONS with its reason.
 */

import type { MoeConfig } from '../harness/package.js'
import { sharedSize } from '../harness/shapes.js'

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
  /** Multiply-adds per clock and multiprocessor in f32, and the share of them that the gate reaches. */
  fmaPerClock: 128,
  fmaShare: 0.4,
  /** Instructions per clock and multiprocessor that selection sustains (of 4). */
  instructionsPerClock: 2,
} as const

export interface Kernel {
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
export function activeExperts(config: MoeConfig, numTokens: number): number {
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

export function kernelsOf(config: MoeConfig, numTokens: number): Kernel[] {
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

export function predict(kernel: Kernel, gpu: Gpu): Prediction {
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
