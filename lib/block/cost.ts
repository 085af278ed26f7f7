/** What a forward computes and reads, exactly, and what a dense layer of all the experts would. */

import { allocate } from './allocate.js'
import type { ResolvedMoeConfig } from './config.js'
import { countMatrixBytes, type LayerWeightFormat } from './weight-format.js'

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
  /**
   * Of layers with a `cache`: bytes of the checkpoint that were read for the call. Of calls that ran as one the first has them all, and the
   * others 0.
   */
  fetchedBytes?: number
}

/** Sizes of one block in FLOPs per token and bytes; all figures follow from the config. */
export interface UnitCosts {
  routerFlops: number
  expertFlops: number
  sharedFlops: number
  latentFlops: number
  routerBytes: number
  /** Of gate and up of one expert, and of all its matrices: the mean where experts are held differently. */
  gateUpBytes: number
  expertBytes: number
  /** Of each expert; `null`: all alike. */
  bytesOfExperts: Float64Array | null
  /** Of all experts. */
  expertsBytes: number
  /** Shared experts, latent projections, shared gate: read by every call with tokens. */
  alwaysBytes: number
}

/** FLOPs per token and bytes of each part, the matrices held in `format`. */
export function unitCosts(config: ResolvedMoeConfig, format: LayerWeightFormat): UnitCosts {
  const width = config.latentSize || config.hiddenSize
  const matrices = config.gated ? 3 : 2
  const outputs = config.numExperts + config.numIdentityExperts
  const expertElements = matrices * width * config.intermediateSize
  const sharedElements = matrices * config.hiddenSize * config.sharedIntermediateSize
  const sharedGateElements = config.sharedGate === 'plain' ? 0 : config.hiddenSize
  const latentElements = 2 * config.hiddenSize * config.latentSize
  const bytes = countMatrixBytes(config, format)
  return {
    routerFlops: 2 * config.hiddenSize * outputs,
    expertFlops: 2 * expertElements,
    sharedFlops: 2 * (sharedElements + sharedGateElements),
    latentFlops: 2 * latentElements,
    routerBytes: 4 * config.hiddenSize * outputs,
    gateUpBytes: bytes.gateUp,
    expertBytes: bytes.gateUp + bytes.down,
    bytesOfExperts: bytes.experts,
    expertsBytes:
      bytes.experts?.reduce((sum, ofOne) => sum + ofOne, 0) ??
      config.numExperts * (bytes.gateUp + bytes.down),
    alwaysBytes: bytes.shared + bytes.latent + 4 * sharedGateElements,
  }
}

/**
 * Counts the work of a call from its routing.
 *
 * @param unit {@link unitCosts} of the layer
 * @param topkIds `[numTokens, topK]`, −1 in dropped slots
 * @param gateRan `false` for a replayed routing
 * @param topkWeights where the gate made a NaN (a row without finite logits) no expert ran
 */
export function countWork(
  config: ResolvedMoeConfig,
  unit: UnitCosts,
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
  let expertBytes = 0
  for (let e = 0; e < expertTokens.length; e++)
    if (expertTokens[e]! > 0) expertBytes += unit.bytesOfExperts?.[e] ?? unit.expertBytes
  const perToken = unit.sharedFlops + unit.latentFlops
  return {
    flops: slots * unit.expertFlops + numTokens * (perToken + (gateRan ? unit.routerFlops : 0)),
    denseFlops: numTokens * (config.numExperts * unit.expertFlops + perToken + unit.routerFlops),
    weightBytes: numTokens === 0 ? 0 : expertBytes + unit.alwaysBytes + (gateRan ? unit.routerBytes : 0),
    denseWeightBytes: unit.expertsBytes + unit.alwaysBytes + unit.routerBytes,
    expertTokens,
  }
}

/**
 * The work of each owner of rows, as if its rows had run alone: the FLOPs of all owners sum to those of the call, and their weight bytes to more
 * where they share experts.
 *
 * @param rows `[numTokens]`, the owner of each row
 */
export function countWorkOf(
  config: ResolvedMoeConfig,
  unit: UnitCosts,
  topkIds: Int32Array,
  rows: Int32Array,
  gateRan: boolean,
  topkWeights: Float32Array,
): Map<number, Work> {
  const { topK } = config
  const rowsOf = new Map<number, number[]>()
  for (let row = 0; row < rows.length; row++) {
    const own = rowsOf.get(rows[row]!)
    if (own) own.push(row)
    else rowsOf.set(rows[row]!, [row])
  }
  const workOf = new Map<number, Work>()
  for (const [owner, own] of rowsOf) {
    const [ids, weights] = [
      allocate(Int32Array, own.length * topK),
      allocate(Float32Array, own.length * topK),
    ]
    for (const [i, row] of own.entries()) {
      ids.set(topkIds.subarray(row * topK, (row + 1) * topK), i * topK)
      weights.set(topkWeights.subarray(row * topK, (row + 1) * topK), i * topK)
    }
    workOf.set(owner, countWork(config, unit, ids, own.length, gateRan, weights))
  }
  return workOf
}

/** Distinct experts that `numTokens` tokens hit when routing is uniform: E (1 − (1 − k/E)^T). */
export function expectedExperts(numExperts: number, topK: number, numTokens: number): number {
  return numExperts * (1 - (1 - Math.min(topK, numExperts) / numExperts) ** numTokens)
}
