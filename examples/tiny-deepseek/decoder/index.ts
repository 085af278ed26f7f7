/** The decoder and what is built on it: generation, sampling, loss, costs. */

export { LOGIT_BOUND } from './bounds.js'
export { TensorFile, type TensorSource } from './checkpoint.js'
export { type DecoderConfig, readDecoderConfig } from './config.js'
export { Continuation } from './continuation.js'
export { costsOfFeedForwards, costsOutside, countParameters, type TokenCosts } from './costs.js'
export {
  type ComputeBudget,
  Decoder,
  type DecoderResult,
  type LayerRouting,
  type Sequence,
  type SequencePart,
} from './decoder.js'
export { DEFAULT_SAMPLING, type GeneratedToken, type GenerationOptions, generate } from './generation.js'
export { type Account, RequestLedger } from './ledger.js'
export { crossEntropy, heldOutLoss, type LossResult, WINDOW, windowBytes, windowStarts } from './loss.js'
export { uniformSource } from './random.js'
export { type SamplingOptions, sampleToken, softmax } from './sample.js'
export { encodeText, TextStream } from './text.js'
