/** Rows of results as the benchmarks write them, for the tests of the report. */

import type { MachineLimits } from '../../bench/harness/machine.js'
import type { CellName, Row } from '../../bench/harness/results.js'
import type { PeerRow } from '../../bench/peers/peers-results.js'

const rate = (best: number) => ({ best, median: best })
export const machine: MachineLimits = {
  fmaInstruction: 'avx2 fma',
  bf16Instruction: null,
  foreignCores: 0,
  threads: [1, 2].map(threads => ({ threads, readGBs: rate(30), fmaGflops: rate(90 * threads) })),
}

export function cell(changes: Partial<CellName & Row> = {}): Row {
  const { numTokens = 1 } = changes
  return {
    ...{
      what: 'layer',
      shape: 'OLMoE-1B-7B',
      device: 'cpu',
      dtype: 'f32',
      load: 'gate',
      numTokens,
      threads: 2,
    },
    ...{ medianMs: 2 * numTokens, p99Ms: 4, samples: 5, foreignCores: 0, disturbed: false },
    ...{ tokensPerSecond: 500, flops: 1e8 * numTokens, weightBytes: 2e8, distinctExperts: 8 },
    ...{ gflops: 50, weightGBs: 10, rooflineShare: 0.5, bound: 'memory' },
    ...changes,
  } as Row
}

export function peer(changes: Partial<PeerRow>): PeerRow {
  return {
    ...{ shape: 'OLMoE-1B-7B', numTokens: 1, threads: 2, group: 'f32', peer: 'sparse-experts', dtype: 'f32' },
    ...{ medianMs: 2, tokensPerSecond: 500, ratio: { median: 1, low: 1, high: 1 }, outputError: 0 },
    ...{ foreignCores: 0, disturbed: false },
    ...changes,
  }
}

export const slower = (median: number) => ({ median, low: median, high: median })
export const peerRows = [1, 8].flatMap(numTokens => [
  peer({ numTokens }),
  peer({ numTokens, peer: 'onnxruntime-node MoE', medianMs: 3, tokensPerSecond: 333, ratio: slower(1.5) }),
  peer({ numTokens, peer: 'PyTorch loop', medianMs: 6, tokensPerSecond: 167, ratio: slower(3) }),
])
export const rows = [
  ...[1, 64, 512, 2048].map(numTokens => cell({ numTokens })),
  ...[1, 64].map(numTokens => cell({ numTokens, threads: 1, medianMs: 3 * numTokens, disturbed: true })),
  ...(['uniform', 'zipf', 'same_experts'] as const).map(load => cell({ numTokens: 64, load })),
  ...['E8', 'E64', 'E512'].flatMap(shape => [cell({ shape }), cell({ shape, numTokens: 64 })]),
  cell({ what: 'dispatch', medianMs: 0.01, shareOfLayer: 0.005 }),
]
