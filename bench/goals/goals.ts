/** The figures that the CPU backend is judged by. docs/goals.md says the same in words, and test/bench/goals.test.ts compares the two. */

import { TIE } from '../layer/earlier-results.js'

/** Least share of the roofline by tokens of a call. */
const CODES = { q4_0: 0.88, q4_K: 0.88, mxfp4: 0.88, q8_0: 0.88, fp8: 0.88 }
export const SHARE_GOALS: readonly {
  numTokens: number
  share: Partial<Record<string, number>>
  of: string
}[] = [
  { numTokens: 1, share: { f32: 0.95, bf16: 0.95, f16: 0.95, ...CODES }, of: 'read bandwidth' },
  { numTokens: 8, share: { f32: 0.95, bf16: 0.95, f16: 0.95 }, of: 'read bandwidth' },
  { numTokens: 64, share: { f32: 0.75, bf16: 0.75 }, of: 'roofline' },
  { numTokens: 512, share: { f32: 0.68, bf16: 0.65 }, of: 'peak of the arithmetic' },
]

/** Least time of peers over ours, by tokens of a call. `peers`: whose name begins so; the fastest of them decides. */
export const PEER_GOALS: readonly {
  numTokens: readonly number[]
  group: 'f32' | 'bf16' | 'int4'
  ratio: number
  peers: string
  name: string
}[] = [
  { numTokens: [1, 8], group: 'f32', ratio: 1.15, peers: 'onnxruntime', name: 'onnxruntime-node' },
  { numTokens: [64], group: 'bf16', ratio: 1.4, peers: '', name: 'the best peer' },
  { numTokens: [64], group: 'f32', ratio: 1.25, peers: '', name: 'the best peer' },
  { numTokens: [512], group: 'bf16', ratio: 1.2, peers: '', name: 'the best peer' },
  { numTokens: [512], group: 'f32', ratio: 1.15, peers: '', name: 'the best peer' },
  { numTokens: [1], group: 'int4', ratio: 2, peers: '', name: 'the best peer' },
  { numTokens: [8], group: 'int4', ratio: 1.5, peers: '', name: 'the best peer' },
  { numTokens: [64], group: 'int4', ratio: 2.5, peers: '', name: 'the best peer' },
  { numTokens: [512], group: 'int4', ratio: 1.8, peers: '', name: 'the best peer' },
]

/** Least time of our own layer in a dtype over that in int4. `architecture`: on which alone it is asked; absent: on all. */
export const OWN_GOALS: readonly {
  numTokens: number
  dtype: 'bf16' | 'f32'
  ratio: number
  architecture?: string
}[] = [
  { numTokens: 512, dtype: 'bf16', ratio: 0.85 },
  { numTokens: 64, dtype: 'f32', ratio: 0.8, architecture: 'avx2' },
]

/** Least time of int4 with exact activations over that with int8 ones, from INT8_ACTIVATIONS_TOKENS tokens on. */
export const MIN_INT8_ACTIVATIONS = 1.3
export const INT8_ACTIVATIONS_TOKENS = 64

/**
 * Least time of the whole-model engine over ours, both holding the same form: of its time per layer, as much as the experts have of the
 * weights that a token meets. `threads`: with which alone it is asked; absent: with all cores. `except`: shapes with a figure of their own.
 */
export const ENGINE_GOALS: readonly {
  numTokens: number
  form: string
  ratio: number
  threads?: number
  except?: Readonly<Record<string, number>>
}[] = [
  { numTokens: 1, form: 'q4_0', ratio: 1.5, threads: 1 },
  { numTokens: 1, form: 'q4_0', ratio: 1.05, except: { 'DeepSeek-V2-Lite': 0.97 } },
  { numTokens: 1, form: 'q8_0', ratio: 1.4, threads: 1 },
  { numTokens: 8, form: 'q4_0', ratio: 1.25 },
  { numTokens: 64, form: 'q4_0', ratio: 2.5 },
  { numTokens: 512, form: 'q4_0', ratio: 2.5 },
]

/** GB/s of codes that one thread with AVX2 alone multiplies by; there the share of the read bandwidth is not asked of them. */
export const MIN_AVX2_CODE_GBS = 16

/** Time of skewed routing over that of uniform routing, beyond what its bytes and FLOPs cost. */
export const MAX_SKEW = 1 + TIE
/** Time of a call beside a busy loop on one core, over that of a call alone. */
export const MAX_CONTENTION = 2.2
/** Share of a layer that is not experts, from AROUND_TOKENS tokens on; milliseconds of it with one token. */
export const MAX_AROUND_SHARE = 0.04
export const AROUND_TOKENS = 64
export const MAX_AROUND_SINGLE_MS = 0.025
/** Microseconds of `forwardSync` and of awaiting `forward`, with 0 tokens. */
export const MAX_SYNC_US = 5
export const MAX_ASYNC_US = 40
/** Growth of the process at the peak of loading, over the bytes of the weights. */
export const MAX_LOAD_BYTES = 1.15
/** Bytes that a layer of codes holds over those that are stored; K-quants have scales of their own kind. */
export const MAX_HELD = { other: 1.02, kQuants: 1.03 }
/** Bytes by which the process grows at the peak of loading codes, beyond those that are held. */
export const MAX_CODES_LOAD_BYTES = 64 * 2 ** 20
/** Speed of loading over that of `cat`. */
export const MIN_LOAD_SPEED = 0.8
/** Coefficient of determination of a line through the times of 64 tokens and more. */
export const MIN_LINE_R2 = 0.98
/** Time grows with the number of experts by at most this power more than the experts that are hit: 1.5 times from 8 to 512 of them. */
export const MAX_EXPERT_POWER = 0.1
