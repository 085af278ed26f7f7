/** The published shapes as the C++ benchmarks take them: NAME:H:I:E:K:SHARED. Run by itself, prints them, one per line. */

import { fileURLToPath } from 'node:url'
import { MODEL_SHAPES } from '../../test/cases/index.js'
import type { MoeConfig } from './package.js'

export const SHAPES = Object.entries(MODEL_SHAPES)

/** A shape of the CPU benchmarks. */
export interface BenchShape {
  name: string
  config: MoeConfig
  /** Experts of all ranks, where this layer is one rank of an expert-parallel group. */
  expertsOfAllRanks?: number
}

/**
 * DeepSeek-V3 as one of 8 expert-parallel ranks: 32 of 256 experts, top-8 over all of them. A rank is handed tokens with their ids, so
 * the gate never runs here and most slots of a token are another rank's; shared experts run where the token lives.
 */
const DEEPSEEK_V3_RANK: BenchShape = {
  name: 'DeepSeek-V3-EP8',
  expertsOfAllRanks: 256,
  config: {
    hiddenSize: 7168,
    intermediateSize: 2048,
    numExperts: 32,
    topK: 8,
    scoringFunc: 'sigmoid',
    normTopkProb: true,
    routedScalingFactor: 2.5,
  },
}

export const BENCH_SHAPES: readonly BenchShape[] = [
  ...SHAPES.map(([name, config]) => ({ name, config })),
  DEEPSEEK_V3_RANK,
]

/** Only the number of experts differs: what a sparse layer must not pay for. */
export const EXPERT_SWEEP: readonly BenchShape[] = [8, 16, 32, 64, 128, 256, 512].map(numExperts => ({
  name: `E${numExperts}`,
  config: {
    ...{ hiddenSize: 1024, intermediateSize: 512, numExperts, topK: 4 },
    scoringFunc: 'softmax',
    normTopkProb: true,
  },
}))

export const isExpertSweep = ({ shape }: { shape: string }) => /^E\d+$/.test(shape)

export function shapeNamed(name: string): BenchShape | undefined {
  return [...BENCH_SHAPES, ...EXPERT_SWEEP].find(shape => shape.name === name)
}

/** Rows of the shared expert's matrices; 0 without one. */
export function sharedSize(config: MoeConfig): number {
  if (!config.numSharedExperts) return 0
  return config.sharedIntermediateSize ?? config.numSharedExperts * config.intermediateSize
}

export function shapeArgument(name: string, config: MoeConfig): string {
  const { hiddenSize, intermediateSize, numExperts, topK } = config
  return [name, hiddenSize, intermediateSize, numExperts, topK, sharedSize(config)].join(':')
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  for (const [name, config] of SHAPES) if (name !== 'small') console.log(shapeArgument(name, config))
}
