/**
 * Who pays for what in a batch: FLOPs and weight bytes of sparse layers by request.
 *
 * A row pays for its own arithmetic. The bytes of an expert are read once per call, and the rows that met it share them; what every call
 * reads (shared experts, router) all rows share. So the requests' bytes add up to what the layers read, and a request that goes along with
 * others pays less than alone. With a budget of FLOPs a server then asks each layer for as many experts per row as the rest affords.
 */

import type { DType, ResolvedMoeConfig } from 'sparse-experts'
import type { LayerRouting } from './decoder.js'

/** What one request has taken. */
export interface Account {
  tokens: number
  flops: number
  weightBytes: number
  /** Sum over rows and layers. */
  experts: number
}

/** FLOPs per row and bytes of the parts of one layer: gated experts without biases, a router in f32, weights held in the layer's dtype. */
function unitCosts(config: Readonly<ResolvedMoeConfig>, dtype: DType) {
  const { hiddenSize, intermediateSize, sharedIntermediateSize, numExperts } = config
  const elementBytes = dtype === 'f32' ? 4 : 2
  const routerElements = hiddenSize * numExperts
  const expertElements = 3 * hiddenSize * intermediateSize
  const sharedElements = 3 * hiddenSize * sharedIntermediateSize
  return {
    routerFlops: 2 * routerElements,
    expertFlops: 2 * expertElements,
    sharedFlops: 2 * sharedElements,
    routerBytes: 4 * routerElements,
    expertBytes: elementBytes * expertElements,
    sharedBytes: elementBytes * sharedElements,
  }
}

export class RequestLedger {
  readonly accounts: Account[]
  readonly #unit: ReturnType<typeof unitCosts>

  /** @param config of the sparse layers, which are alike */
  constructor(config: Readonly<ResolvedMoeConfig>, dtype: DType, numRequests: number) {
    this.#unit = unitCosts(config, dtype)
    this.accounts = Array.from({ length: numRequests }, () => ({
      tokens: 0,
      flops: 0,
      weightBytes: 0,
      experts: 0,
    }))
  }

  /**
   * Charges a call.
   *
   * @param requestOfRow the request of each row, an index into `accounts`
   */
  charge(routing: readonly LayerRouting[], requestOfRow: ArrayLike<number>): void {
    const { routerFlops, expertFlops, sharedFlops, routerBytes, expertBytes, sharedBytes } = this.#unit
    for (let row = 0; row < requestOfRow.length; row++) this.accounts[requestOfRow[row]!]!.tokens++
    for (const { topK, topkIds, work } of routing) {
      for (let row = 0; row < requestOfRow.length; row++) {
        const account = this.accounts[requestOfRow[row]!]!
        account.flops += routerFlops + sharedFlops
        account.weightBytes += (routerBytes + sharedBytes) / requestOfRow.length
        for (const id of topkIds.subarray(row * topK, (row + 1) * topK)) {
          if (id < 0) continue
          account.experts++
          account.flops += expertFlops
          account.weightBytes += expertBytes / work.expertTokens[id]!
        }
      }
    }
  }

  /** FLOPs of one token with `topK` experts in each of `numLayers` sparse layers. */
  tokenFlops(topK: number, numLayers: number): number {
    const { routerFlops, expertFlops, sharedFlops } = this.#unit
    return numLayers * (routerFlops + sharedFlops + topK * expertFlops)
  }

  /**
   * Experts per row that a request can afford for its next token, evenly spent over the tokens that are left; 0 leaves it the shared expert.
   *
   * @param budget FLOPs of the sparse layers for the whole request
   */
  affordableTopK(
    request: number,
    budget: number,
    tokensLeft: number,
    maxTopK: number,
    numLayers: number,
  ): number {
    const perToken = (budget - this.accounts[request]!.flops) / Math.max(1, tokensLeft)
    let topK = maxTopK
    while (topK > 0 && this.tokenFlops(topK, numLayers) > perToken) topK--
    return topK
  }
}
