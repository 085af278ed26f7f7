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

/** One expert. I = intermediateSize, D = hiddenSize (or latentSize). */
export interface ExpertWeights {
  /** `[I, D]`, the activated half; absent in families whose experts are not gated. */
  gate?: WeightMatrix
  /** `[I, D]` */
  up: WeightMatrix
  /** `[D, I]` */
  down: WeightMatrix
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
export interface MoeWeights {
  /** What a `Uint16Array` in here holds. @defaultValue 'bf16' */
  dtype?: DType
  router: RouterWeights
  /** One entry per real expert. */
  experts: readonly ExpertWeights[]
  /** The fused shared MLP, of width `sharedIntermediateSize`. */
  shared?: ExpertWeights
  /** `[1, H]`, with `sharedGate` 'sigmoid' or 'mix'. */
  sharedGate?: WeightMatrix
  /** `[1]` added to the logit of `sharedGate` (Klear). */
  sharedLogitBias?: Float32Array
  /** `[latentSize, H]` */
  latentDown?: WeightMatrix
  /** `[H, latentSize]` */
  latentUp?: WeightMatrix
  /** `[latentSize]`, with `latentNormEpsilon` (Kimi-K3). */
  latentNorm?: Float32Array
  /** `[H]` added to the output (JetMoE). */
  outputBias?: Float32Array
}
