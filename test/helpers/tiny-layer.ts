/** Small layers for the tests of the API, where the arithmetic is not the point. */

import { loadNative } from '../../lib/devices/native/addon.js'
import { type LayerOptions, MoeLayer } from '../../lib/index.js'
import type { LayerCase } from '../cases/index.js'
import { makeLayerData } from '../cases/layer-data.js'

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

/** The CUDA backend that is loaded computes on an emulated GPU: slow, with failures that can be planned. */
export function isEmulated(device: string): boolean {
  if (!device.startsWith('cuda')) return false
  const cuda = loadNative()
    .backends()
    .find(({ name }) => name === 'cuda')
  return /emulated/.test(cuda?.architectures ?? '')
}

/** Rows that a processor takes that time for; one that qemu emulates computes floats in software. */
function slowRowsOfCpu(): number {
  if (process.env.SE_TEST_PLATFORM === 'linux-arm64') return 16
  return process.env.SPARSE_EXPERTS_SANITIZED ? 256 : 2048
}

/** A forward of this takes some ten to some hundred milliseconds: long enough to meet it while it runs. */
export function slowCase(device: string): LayerCase {
  return {
    ...tinyCase,
    name: 'slow',
    config: { ...tinyCase.config, hiddenSize: 512, intermediateSize: 768, numExperts: 16, topK: 8 } as never,
    numTokens: isEmulated(device) ? 4 : device.startsWith('cuda') ? 20_000 : slowRowsOfCpu(),
  }
}

export function tinyLayer(options: LayerOptions = {}, layerCase = tinyCase) {
  const data = makeLayerData(layerCase, options.dtype && options.dtype !== 'auto' ? options.dtype : 'f32')
  return { ...data, layer: MoeLayer.create(data.config, data.weights, options) }
}
