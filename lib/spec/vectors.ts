/** Generated from spec/vectors.json by tools/build/spec.mjs: do not edit. */

/** Small tensors of a block, widened to f32; E counts router outputs, D is latentSize or hiddenSize. */
export interface VectorTensors {
  /** `[E, H]` */
  routerWeight: Float32Array
  /** `[E]` */
  routerBias?: Float32Array
  /** `[E]` */
  selectionBias?: Float32Array
  /** `[E]` */
  perExpertScale?: Float32Array
  /** `[H]` */
  routerInputScale?: Float32Array
  /** `[vocabSize, topK]` */
  hashTable?: Int32Array
  /** `[H]` */
  sharedGate?: Float32Array
  /** `[1]` */
  sharedLogitBias?: Float32Array
  /** `[latentSize]` */
  latentNorm?: Float32Array
  /** `[H]` */
  outputBias?: Float32Array
  /** `[numExperts, I]`, gate and up apart, whatever the checkpoint's layout */
  gateBias?: Float32Array
  /** `[numExperts, I]` */
  upBias?: Float32Array
  /** `[numExperts, D]` */
  downBias?: Float32Array
  /** `[sharedIntermediateSize]` */
  sharedGateBias?: Float32Array
  /** `[sharedIntermediateSize]` */
  sharedUpBias?: Float32Array
  /** `[H]` */
  sharedDownBias?: Float32Array
}

/** Their names, in the order of the addon. */
export const VECTOR_NAMES = [
  'routerWeight',
  'routerBias',
  'selectionBias',
  'perExpertScale',
  'routerInputScale',
  'hashTable',
  'sharedGate',
  'sharedLogitBias',
  'latentNorm',
  'outputBias',
  'gateBias',
  'upBias',
  'downBias',
  'sharedGateBias',
  'sharedUpBias',
  'sharedDownBias',
] as const
export type VectorName = (typeof VECTOR_NAMES)[number]
