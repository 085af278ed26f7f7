/**
 * What one token costs in arithmetic and weight bytes, outside of and inside the feed-forwards, from shapes alone.
 *
 * Counted once per multiply-add as two FLOPs. Attention over the cached tokens grows with the position and is left out: it is the same
 * for a model and its dense twins. Weight bytes are those of the dtype that the feed-forwards run in, and what a single token reads.
 */

import { type DType, type MoeLayer, plan } from 'sparse-experts'
import type { DecoderConfig } from './config.js'
import type { Decoder } from './decoder.js'

export interface TokenCosts {
  flops: number
  weightBytes: number
}

const elementBytes = (dtype: DType) => (dtype === 'f32' ? 4 : 2)

/** Elements of all matrices of the attention. */
function attentionElements(config: DecoderConfig): number {
  const { hiddenSize, numHeads, qkNopeHeadDim, qkRopeHeadDim, vHeadDim, kvLoraRank } = config
  return (
    hiddenSize * numHeads * (qkNopeHeadDim + qkRopeHeadDim) +
    hiddenSize * (kvLoraRank + qkRopeHeadDim) +
    kvLoraRank * numHeads * (qkNopeHeadDim + vHeadDim) +
    numHeads * vHeadDim * hiddenSize
  )
}

/** Attention projections and the logits. */
export function costsOutside(config: DecoderConfig, dtype: DType): TokenCosts {
  const elements = config.numLayers * attentionElements(config) + config.vocabSize * config.hiddenSize
  return { flops: 2 * elements, weightBytes: elementBytes(dtype) * elements }
}

/** Parameters that training changes by gradients: all but the selection biases. */
export function countParameters({ config, feedForwards, sparseLayers }: Decoder): number {
  const { hiddenSize, kvLoraRank, numLayers, vocabSize } = config
  const norms = numLayers * (2 * hiddenSize + kvLoraRank) + hiddenSize
  const sparse = new Set(sparseLayers)
  const feedForward = feedForwards.map(({ config: layer }, index) => {
    const expert = 3 * hiddenSize * layer.intermediateSize
    if (!sparse.has(index)) return expert
    return layer.numExperts * (expert + hiddenSize) + 3 * hiddenSize * layer.sharedIntermediateSize
  })
  return (
    2 * vocabSize * hiddenSize +
    norms +
    numLayers * attentionElements(config) +
    feedForward.reduce((sum, elements) => sum + elements, 0)
  )
}

/** All feed-forwards; one token selects `topK` experts of a sparse layer, so that this is exact. */
export function costsOfFeedForwards(decoder: Decoder): TokenCosts {
  const sparse = new Set(decoder.sparseLayers)
  const parts = decoder.feedForwards.map((layer, index) =>
    sparse.has(index) ? sparseCosts(layer) : denseCosts(layer),
  )
  const sum = (pick: (costs: TokenCosts) => number) => parts.reduce((total, part) => total + pick(part), 0)
  return { flops: sum(part => part.flops), weightBytes: sum(part => part.weightBytes) }
}

function sparseCosts(layer: MoeLayer): TokenCosts {
  const { flops, expectedWeightBytes } = plan(layer.config, 1, 'reference', { dtype: layer.dtype })
  return { flops, weightBytes: expectedWeightBytes }
}

/** Without the router of the single expert that stands in for a dense feed-forward. */
function denseCosts({ config, dtype }: MoeLayer): TokenCosts {
  const elements = 3 * config.hiddenSize * config.intermediateSize
  return { flops: 2 * elements, weightBytes: elementBytes(dtype) * elements }
}
