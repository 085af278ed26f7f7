/** Small layers for the tests of the API, where the arithmetic is not the point. */

import { type LayerOptions, MoeLayer } from '../../lib/index.js'
import type { LayerCase } from '../cases.js'
import { makeLayerData } from './layer-data.js'

export const tinyCase: LayerCase = {
  name: 'tiny',
  config: {
    family: 'tiny',
    hiddenSize: 32,
    intermediateSize: 24,
    numExperts: 8,
    topK: 3,
    scoringFunc: 'softmax',
    normTopkProb: true,
    numSharedExperts: 1,
  },
  numTokens: 6,
  load: 'gate',
}

/** A forward of this on two threads takes some hundred milliseconds: long enough to meet it while it runs. */
export const slowCase: LayerCase = {
  ...tinyCase,
  name: 'slow',
  config: { ...tinyCase.config, hiddenSize: 512, intermediateSize: 768, numExperts: 16, topK: 8 } as never,
  numTokens: 2048,
}

export function tinyLayer(options: LayerOptions = {}, layerCase = tinyCase) {
  const data = makeLayerData(layerCase, options.dtype && options.dtype !== 'auto' ? options.dtype : 'f32')
  return { ...data, layer: MoeLayer.create(data.config, data.weights, options) }
}
