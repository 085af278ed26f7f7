/** The whole layer on every native device against the double-precision reference, over the case table. */

import { describe, expect, it } from 'vitest'
import type { DType } from '../../lib/block/dtype.js'
import { MoeLayer, reference } from '../../lib/index.js'
import { BOUNDS, LAYER_CASES, type LayerCase, SELECTION_MARGIN, WEIGHT_BOUND } from '../cases/index.js'
import { makeLayerData } from '../cases/layer-data.js'
import { nativeDevices } from '../helpers/devices.js'
import { expectClose } from '../helpers/relative-error.js'
import { routingOf } from '../helpers/routing-of.js'

function check(layerCase: LayerCase, dtype: DType, device: string) {
  const { config, weights, hidden, options } = makeLayerData(layerCase, dtype, 7)
  using layer = MoeLayer.create(config, weights, { device: device as 'cpu', dtype })
  const output = new Float32Array(hidden.length).fill(Number.NaN)
  const result = layer.forwardSync(hidden, { ...options, output })
  expect(result.output).toBe(output)
  expect(result.nonFiniteRows).toHaveLength(0)

  const free = reference.forward(config, weights, hidden, options)
  if (!options.routing) {
    const { topK } = config
    const { selectionBias, perExpertScale, hashTable } = weights.router
    const { margin, orderGap } = reference.selectionMargins(
      free.routerLogits,
      { ...routingOf(config), selectionBias, perExpertScale, hashTable } as never,
      { tokenIds: options.tokenIds, sequenceLengths: options.sequenceLengths },
    )
    for (let token = 0; token < layerCase.numTokens; token++) {
      if (margin[token]! <= SELECTION_MARGIN) continue
      const ids = [...result.topkIds.subarray(token * topK, (token + 1) * topK)]
      const expected = [...free.topkIds.subarray(token * topK, (token + 1) * topK)]
      if (orderGap[token]! <= SELECTION_MARGIN) {
        ids.sort((a, b) => a - b)
        expected.sort((a, b) => a - b)
      }
      expect(ids, `ids of token ${token}`).toEqual(expected)
    }
  }
  if (sameIds(result.topkIds, free.topkIds)) {
    if (!options.routing) expectClose(result.topkWeights, free.topkWeights, WEIGHT_BOUND, 'topkWeights')
    expectClose(output, free.output, BOUNDS[dtype], 'output')
    return
  }
  // Near ties may fall either way; the numbers are compared on the experts that the device chose.
  const replayed = reference.forward(config, weights, hidden, {
    routing: { topkIds: result.topkIds, topkWeights: result.topkWeights },
  })
  expectClose(output, replayed.output, BOUNDS[dtype], 'output')
}

function sameIds(a: Int32Array, b: Int32Array): boolean {
  return a.every((id, i) => id === b[i])
}

/** One suite per dtype, each in a file of its own: they are the longest, and files run side by side. */
export function layerSuite(dtype: DType): void {
  describe.each([...nativeDevices])('layer on %s', device => {
    it.each(LAYER_CASES)(`$name, ${dtype}`, layerCase => check(layerCase, dtype, device))
  })
}
