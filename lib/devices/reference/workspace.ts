/** What a forward of the reference needs besides its arrays. */

import type { ResolvedMoeConfig } from '../../block/config.js'

/** Scratch of one forward in bytes: rows of doubles, whatever the number of tokens (capacity rules also keep each token's choice). */
export function referenceWorkspaceBytes(config: ResolvedMoeConfig, numTokens: number): number {
  const { hiddenSize, latentSize, intermediateSize, sharedIntermediateSize, numExperts, topK } = config
  const size = latentSize || hiddenSize
  const row =
    4 * hiddenSize +
    3 * size +
    2 * Math.max(intermediateSize, sharedIntermediateSize) +
    4 * (numExperts + config.numIdentityExperts)
  return 8 * (row + (config.capacity ? numTokens * (3 * topK + 1) : 0))
}
