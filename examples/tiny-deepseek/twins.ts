/**
 * The dense twins of the model: the same decoder with dense feed-forwards as wide as all its experts together (dense_total), or as wide as
 * the experts that one token runs (dense_active). Their trained weights do not ship; time depends on shapes alone, so that without them a
 * twin with random feed-forwards is timed.
 */

import { existsSync } from 'node:fs'
import path from 'node:path'
import { randomHiddenStates } from '../../lib/cli/hidden-states.js'
import { TensorFile, type TensorSource } from './decoder/checkpoint.js'
import { readDecoderConfig } from './decoder/config.js'
import { Decoder } from './decoder/decoder.js'
import { type FeedForwardOptions, loadDense } from './decoder/feed-forward.js'

export type TwinName = 'dense_active' | 'dense_total'

/** Columns of a twin's dense feed-forwards, in place of the sparse ones of `model`. */
export function twinSize(model: Decoder, name: TwinName): number {
  const { numExperts, topK, intermediateSize, sharedIntermediateSize } =
    model.feedForwards[model.sparseLayers[0]!]!.config
  return (name === 'dense_total' ? numExperts : topK) * intermediateSize + sharedIntermediateSize
}

/**
 * @param model whose twin it is, loaded from `directory`
 * @param runs a folder with `<name>/model` as train/publish.py leaves it; absent: random feed-forwards
 */
export async function loadTwin(
  model: Decoder,
  directory: string,
  name: TwinName,
  options: FeedForwardOptions,
  runs?: string,
): Promise<{ decoder: Decoder; trained: boolean }> {
  const trained = runs === undefined ? undefined : path.join(runs, name, 'model')
  if (trained !== undefined && existsSync(path.join(trained, 'config.json')))
    return { decoder: await Decoder.load(trained, options), trained: true }
  await using file = await TensorFile.open(directory)
  const config = await readDecoderConfig(directory)
  const random: TensorSource = {
    async read(_, [rows, columns]) {
      const values = randomHiddenStates(rows!, columns!, rows! + columns!)
      return values.map(value => value / Math.sqrt(columns!))
    },
  }
  const decoder = await Decoder.build({ ...config, firstSparseLayer: config.numLayers }, file, layer => {
    const dense = layer < config.firstSparseLayer
    const size = dense ? model.feedForwards[layer]!.config.intermediateSize : twinSize(model, name)
    return loadDense(dense ? file : random, layer, config.hiddenSize, size, options)
  })
  return { decoder, trained: false }
}
