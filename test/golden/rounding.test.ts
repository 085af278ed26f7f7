/**
 * The error of single rows, in every family, on fresh inputs. A row of a small layer may be small beside its addends; relative to it, what
 * rounding costs then exceeds the bound of the dtype. So it is held against what rounding costs in that case, computed in double precision.
 */

import { describe, expect, it } from 'vitest'
import type { DeviceOption } from '../../lib/devices/device.js'
import { type ForwardOptions, MoeLayer } from '../../lib/index.js'
import { BOUNDS, type LayerCase } from '../cases/index.js'
import { makeLayerData } from '../cases/layer-data.js'
import { Random } from '../cases/random.js'
import { nativeDevices } from '../helpers/devices.js'
import { relativeError } from '../helpers/relative-error.js'
import { loadRounded, roundedDtype } from '../helpers/rounded-rows.js'
import { type GoldenCase, goldenCases } from './cases.js'

const SEED = Number(process.env.SE_TEST_SEED ?? Date.now() % 2 ** 31)

/** One checkpoint of each family: how its weights are stored changes nothing here. */
const CASES = goldenCases().filter(
  ({ expected }, at, all) => all.findIndex(other => other.expected.family === expected.family) === at,
)

/** What a call of these rows needs beside them; ids of tokens as the checkpoint's own, whose table may be short. */
function optionsOf({ expected }: GoldenCase, numTokens: number, random: Random): ForwardOptions {
  const { tokenIds, routerInput, sequenceLengths, hiddenSize } = expected
  return {
    tokenIds: tokenIds && Int32Array.from({ length: numTokens }, (_, i) => tokenIds[i % tokenIds.length]!),
    routerInput: routerInput && random.normals(numTokens * hiddenSize, 1),
    sequenceLengths: sequenceLengths && Int32Array.of(numTokens),
  }
}

describe.each(nativeDevices)('%s', device => {
  it.each(CASES)(`$name: no more than rounding costs (seed ${SEED})`, async golden => {
    const { directory, expected } = golden
    const random = new Random(SEED)
    for (const dtype of device === 'cpu' ? (['bf16'] as const) : (['bf16', 'f16'] as const)) {
      const load = (on: string) =>
        MoeLayer.load(directory, {
          device: on as DeviceOption,
          dtype,
          layer: expected.layer,
          module: expected.module,
        })
      const [layer, exact] = [await load(device), await load('reference')]
      const rowDtype = roundedDtype(device, dtype)
      const rounded = rowDtype && (await loadRounded(directory, expected, dtype, rowDtype))
      for (const numTokens of [1, 2]) {
        const hidden = random.normals(numTokens * expected.hiddenSize, 1)
        const options = optionsOf(golden, numTokens, random)
        // The least compute budget: nothing evens out one expert's error.
        if (numTokens === 1) options.topK = 1
        const { output, topkIds, topkWeights } = layer.forwardSync(hidden, options)
        const replayed = await exact.forward(hidden, {
          ...options,
          topK: undefined,
          routing: { topkIds, topkWeights },
        })
        let bound: number = BOUNDS.f32
        if (rounded) {
          const costs = rounded({ hidden, topkIds, topkWeights })
          bound += relativeError(costs.output, replayed.output)
          for (const other of costs.others) bound += relativeError(other, costs.output)
        }
        const error = relativeError(output, replayed.output)
        expect(error, `${dtype}, ${numTokens} rows`).toBeLessThanOrEqual(bound)
      }
      layer.dispose()
      exact.dispose()
    }
  })

  it(`keeps the bound of bf16 from 256 columns on, one row through one expert (seed ${SEED})`, () => {
    const layerCase: LayerCase = {
      ...{ name: 'rows of 256 columns', numTokens: 64, load: 'gate' },
      config: {
        ...{ scoringFunc: 'softmax', normTopkProb: true, numExperts: 4, topK: 1 },
        ...{ hiddenSize: 256, intermediateSize: 128 },
      },
    }
    const { config, weights, hidden } = makeLayerData(layerCase, 'bf16', SEED)
    const [layer, exact] = [device, 'reference'].map(on =>
      MoeLayer.create(config, weights, { device: on as DeviceOption, dtype: 'bf16' }),
    )
    for (let row = 0; row < layerCase.numTokens; row++) {
      const one = hidden.subarray(row * config.hiddenSize, (row + 1) * config.hiddenSize)
      const { output, topkIds, topkWeights } = layer!.forwardSync(one)
      const expected = exact!.forwardSync(one, { routing: { topkIds, topkWeights } }).output
      expect(relativeError(output, expected), `row ${row}`).toBeLessThanOrEqual(BOUNDS.bf16)
    }
    layer!.dispose()
    exact!.dispose()
  })
})
