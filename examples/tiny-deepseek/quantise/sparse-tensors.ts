/** The tensors of a sparse layer in f32, and the description of its block. */

import { openCheckpoint, type ResolvedMoeConfig } from 'sparse-experts'
import type { TensorSource } from '../decoder/checkpoint.js'
import { type Mlp, readMlp } from '../decoder/feed-forward.js'

export interface SparseTensors {
  config: ResolvedMoeConfig
  /** `[numExperts, hiddenSize]` */
  router: Float32Array
  /** `[numExperts]` */
  selectionBias: Float32Array
  experts: Mlp[]
  shared: Mlp
}

/** @param directory of the checkpoint that `source` reads: the package reads the block's description from it */
export async function readSparse(
  directory: string,
  source: TensorSource,
  layer: number,
): Promise<SparseTensors> {
  await using checkpoint = await openCheckpoint(directory)
  const { config } = checkpoint.layers.find(({ index }) => index === layer)!
  const { hiddenSize, intermediateSize, sharedIntermediateSize, numExperts } = config
  const prefix = `model.layers.${layer}.mlp`
  const experts: Mlp[] = []
  for (let e = 0; e < numExperts; e++)
    experts.push(await readMlp(source, `${prefix}.experts.${e}`, hiddenSize, intermediateSize))
  return {
    config,
    router: await source.read(`${prefix}.gate.weight`, [numExperts, hiddenSize]),
    selectionBias: await source.read(`${prefix}.gate.e_score_correction_bias`, [numExperts]),
    experts,
    shared: await readMlp(source, `${prefix}.shared_experts`, hiddenSize, sharedIntermediateSize),
  }
}
