/** The layer that all peers run, its weights also as files. */

import { Random } from '../../test/cases/random.js'
import { randomHidden } from '../harness/inputs.js'
import type { MoeConfig } from '../harness/package.js'
import type { PeerLayer } from '../harness/peer.js'
import type { BenchShape } from '../harness/shapes.js'
import { makeBenchWeights } from '../harness/weights.js'
import { writeLayerFiles } from './layer-files.js'

/** The shape with the one routing rule that every peer has: softmax, top-k, renormalised. */
export function makePeerLayer(
  { name, config: published }: BenchShape,
  tokenCounts: readonly number[],
  threads: number,
  directory: string,
): PeerLayer {
  const { hiddenSize, intermediateSize, numExperts, topK, numSharedExperts } = published
  const config: MoeConfig = {
    ...{ hiddenSize, intermediateSize, numExperts, topK, numSharedExperts },
    scoringFunc: 'softmax',
    normTopkProb: true,
  }
  const { weights } = makeBenchWeights({ name, config }, 'bf16')
  const numRows = Math.max(256, 2 * Math.max(...tokenCounts))
  const hidden = randomHidden(new Random(3), numRows, hiddenSize)
  const layer = { shape: name, config, weights, hidden, threads, directory }
  writeLayerFiles(layer)
  return layer
}
