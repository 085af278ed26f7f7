/** Weights of one MoE block as plain typed arrays, for `MoeLayer.create` and the reference. */

import type { DType, FloatArray } from './dtype.js'

/** A matrix that is not dense row-major: element (r, c) is `data[offset + r * strides[0] + c * strides[1]]`. */
export interface StridedMatrix {
  data: FloatArray
  /** In elements. @defaultValue 0 */
  offset?: number
  /** Elements between two rows and between two columns: `[1, rows]` reads a transposed matrix, `[2 * cols, 1]` every other row. */
  strides: readonly [number, number]
}

/** Dense row-major `[rows, cols]`, or a strided view of one (transposed, interleaved or fused layouts). */
export type WeightMatrix = FloatArray | StridedMatrix

/** Forms of {@link QuantizedMatrix}: our own, then ggml's types, whose raw blocks hold all their parts. */
export const QUANTIZED_FORMATS = [
  'int8',
  'int4',
  'fp8',
  'mxfp4',
  'nvfp4',
  'q4_0',
  'q4_1',
  'q5_0',
  'q5_1',
  'q8_0',
  'q2_K',
  'q3_K',
  'q4_K',
  'q5_K',
  'q6_K',
  'iq1_s',
  'iq1_m',
  'iq2_xxs',
  'iq2_xs',
  'iq2_s',
  'iq3_xxs',
  'iq3_s',
  'iq4_nl',
  'iq4_xs',
  'ggml_mxfp4',
  'ggml_nvfp4',
] as const
export type QuantizedFormat = (typeof QUANTIZED_FORMATS)[number]

/** Numbers that scales are stored as; e8m0 is the exponent byte of a power of two. */
export type ScaleType = 'f32' | 'f16' | 'bf16' | 'e8m0' | 'e4m3'

/**
 * A matrix `[rows, cols]` in codes. A weight is `(code − zero) · scale` of its block, `blockRows` rows by `groupSize` columns.
 *
 * | format | data | scales |
 * | --- | --- | --- |
 * | int8 | `[rows, cols]` signed bytes | per row and 32 columns, f16 |
 * | int4 | two codes per byte, the even column in the low nibble, 8 more than the integer; rows padded to whole 4 bytes | the same |
 * | fp8 | `[rows, cols]` e4m3fn | per 128 rows and 128 columns, f32 |
 * | mxfp4 | two e2m1 per byte, the even column in the low nibble | per row and 32 columns, e8m0 |
 * | nvfp4 | the same | per row and 16 columns, e4m3, times `globalScale` |
 * | a ggml type | its blocks, row by row | in the blocks |
 */
export interface QuantizedMatrix {
  format: QuantizedFormat
  data: Uint8Array | Int8Array
  /** `[ceil(rows / blockRows), ceil(cols / groupSize)]` of `scaleType`: floats, or their bits. */
  scales?: Float32Array | Uint16Array | Uint8Array
  scaleType?: ScaleType
  /** int8 and int4: one per scale; the integers that stand for zero (int4: 0 … 15). Absent: 0, and 8. */
  zeros?: Uint8Array | Int8Array
  /** Columns that share a scale; `cols` or more: one per row. */
  groupSize?: number
  /** Rows that share a scale. */
  blockRows?: number
  /** nvfp4 */
  globalScale?: number
  /** int8 and int4: `[cols]`, the group of each column where they do not lie in order (GPTQ's `g_idx`). */
  groupIndex?: Int32Array
}

/** A matrix of an expert: floats or codes. */
export type ExpertMatrix = WeightMatrix | QuantizedMatrix

/** One expert. I = intermediateSize, D = hiddenSize (or latentSize). */
export interface ExpertWeights<M = ExpertMatrix> {
  /** `[I, D]`, the activated half; absent in families whose experts are not gated. */
  gate?: M
  /** `[I, D]` */
  up: M
  /** `[D, I]` */
  down: M
  /** `[I]` */
  gateBias?: Float32Array
  /** `[I]` */
  upBias?: Float32Array
  /** `[D]` */
  downBias?: Float32Array
}

/** The router. E counts the router's outputs: real experts, then identity experts. */
export interface RouterWeights {
  /** `[E, H]`; held in f32 on every device. */
  weight: WeightMatrix
  /** `[E]` added to the logits (gpt-oss). */
  bias?: Float32Array
  /** `[E]` added to the scores for selection only. */
  selectionBias?: Float32Array
  /** `[E]` multiplies the weight after renormalisation (Gemma 4). */
  perExpertScale?: Float32Array
  /** `[H]`, with `routerNormEpsilon` (Gemma 4). */
  inputScale?: Float32Array
  /** `[vocabSize, topK]`, for `hashRouted`. */
  hashTable?: Int32Array
}

/** All weights of a block. Arrays are copied by `MoeLayer.create`; the caller keeps its own. */
export interface MoeWeights<M = ExpertMatrix> {
  /** What a `Uint16Array` in here holds. @defaultValue 'bf16' */
  dtype?: DType
  router: RouterWeights
  /** One entry per real expert. */
  experts: readonly ExpertWeights<M>[]
  /** The fused shared MLP, of width `sharedIntermediateSize`. */
  shared?: ExpertWeights<M>
  /** `[1, H]`, with `sharedGate` 'sigmoid' or 'mix'. */
  sharedGate?: WeightMatrix
  /** `[1]` added to the logit of `sharedGate` (Klear). */
  sharedLogitBias?: Float32Array
  /** `[latentSize, H]` */
  latentDown?: M
  /** `[H, latentSize]` */
  latentUp?: M
  /** `[latentSize]`, with `latentNormEpsilon` (Kimi-K3). */
  latentNorm?: Float32Array
  /** `[H]` added to the output (JetMoE). */
  outputBias?: Float32Array
}

/** Weights none of which are codes. */
export type FloatWeights = MoeWeights<WeightMatrix>
