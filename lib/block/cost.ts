/** What a forward computes and reads, exactly, and what a dense layer of all the experts would. */

import { allocate } from './allocate.js'
import type { ResolvedMoeConfig } from './config.js'
import { matrixBytes, type WeightFormat } from './weight-format.js'

/** The ledger of one call. A multiply-add counts as two FLOPs; weight bytes count each distinct expert once. */
export interface Work {
  /** Router, selected experts, shared experts and projections. */
  flops: number
  /** The same with every expert for every token. */
  denseFlops: number
  /** Bytes of distinct weights that the call needed: router, hit experts, shared experts. */
  weightBytes: number
  /** Bytes of all the layer's weights. */
  denseWeightBytes: number
  /** Tokens per expert, `[numExperts]`; identity experts have no entry. */
  expertTokens: Int32Array
}

/** Sizes of one block in FLOPs per token and bytes; all figures follow from the config. */
export interface UnitCosts {
  routerFlops: number
  expertFlops: number
  sharedFlops: number
  latentFlops: number
  routerBytes: number
  expertBytes: number
  /** Shared experts, latent projections, shared gate: read by every call with tokens. */
  alwaysBytes: number
}

/** FLOPs per token and bytes of each part, the matrices held in `format`. */
export function unitCosts(config: ResolvedMoeConfig, format: WeightFormat): UnitCosts {
  const width = config.latentSize || config.hiddenSize
  const matrices = config.gated ? 3 : 2
  const outputs = config.numExperts + config.numIdentityExperts
  const expertElements = matrices * width * config.intermediateSize
  const sharedElements = matrices * config.hiddenSize * config.sharedIntermediateSize
  const sharedGateElements = config.sharedGate === 'plain' ? 0 : config.hiddenSize
  const latentElements = 2 * config.hiddenSize * config.latentSize
  const mlpBytes = (intermediate: number, outer: number) =>
    (matrices - 1) * matrixBytes(format, intermediate, outer) + matrixBytes(format, outer, intermediate)
  const latentBytes =
    matrixBytes(format, config.latentSize, config.hiddenSize) +
    matrixBytes(format, config.hiddenSize, config.latentSize)
  return {
    routerFlops: 2 * config.hiddenSize * outputs,
    expertFlops: 2 * expertElements,
    sharedFlops: 2 * (sharedElements + sharedGateElements),
    latentFlops: 2 * latentElements,
    routerBytes: 4 * config.hiddenSize * outputs,
    expertBytes: mlpBytes(config.intermediateSize, width),
    alwaysBytes:
      mlpBytes(config.sharedIntermediateSize, config.hiddenSize) + latentBytes + 4 * sharedGateElements,
  }
}

/**
 * Counts the work of a call from its routing.
 *
 * @param format that the layer holds its matrices in
 * @param topkIds `[numTokens, topK]`, −1 in dropped slots
 * @param gateRan `false` for a replayed routing
 * @param topkWeights where the gate made a NaN (a row without finite logits) no expert ran
 */
export function countWork(
  config: ResolvedMoeConfig,
  format: WeightFormat,
  topkIds: Int32Array,
  numTokens: number,
  gateRan: boolean,
  topkWeights?: Float32Array,
): Work {
  const expertTokens = allocate(Int32Array, config.numExperts)
  let slots = 0
  for (let slot = 0; slot < topkIds.length; slot++) {
    const expert = topkIds[slot]!
    if (expert < 0 || expert >= config.numExperts) continue
    if (gateRan && topkWeights && Number.isNaN(topkWeights[slot]!)) continue
    expertTokens[expert]!++
    slots++
  }
  let distinct = 0
  for (const count of expertTokens) if (count > 0) distinct++
  const unit = unitCosts(config, format)
  const perToken = unit.sharedFlops + unit.latentFlops
  return {
    flops: slots * unit.expertFlops + numTokens * (perToken + (gateRan ? unit.routerFlops : 0)),
    denseFlops: numTokens * (config.numExperts * unit.expertFlops + perToken + unit.routerFlops),
    weightBytes:
      numTokens === 0 ? 0 : distinct * unit.expertBytes + unit.alwaysBytes + (gateRan ? unit.routerBytes : 0),
    denseWeightBytes: config.numExperts * unit.expertBytes + unit.alwaysBytes + unit.routerBytes,
    expertTokens,
  }
}

/** Distinct experts that `numTokens` tokens hit when routing is uniform: E (1 − (1 − k/E)^T). */
export function expectedExperts(numExperts: number, topK: number, numTokens: number): number {
  return numExperts * (1 - (1 - Math.min(topK, numExperts) / numExperts) ** numTokens)
}
