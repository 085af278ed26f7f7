/** Every golden checkpoint through the public interface, on every device and in every dtype. */

import { describe, expect, it } from 'vitest'
import { DTYPES } from '../../lib/block/dtype.js'
import type { DeviceOption } from '../../lib/devices/device.js'
import { MoeLayer } from '../../lib/index.js'
import { BOUNDS, SELECTION_MARGIN, WEIGHT_BOUND } from '../cases/index.js'
import { allDevices } from '../helpers/devices.js'
import { expectClose } from '../helpers/relative-error.js'
import { goldenCases } from './cases.js'

describe.each(allDevices)('%s', device => {
  it.each(goldenCases())('$name', async ({ directory, expected }) => {
    expect(Math.min(...expected.margins)).toBeGreaterThan(SELECTION_MARGIN)
    // What the reference makes of 16-bit dtypes is what the native decoders make, bit by bit (test/unit/decode-native.test.ts).
    for (const dtype of device === 'reference' ? (['f32'] as const) : DTYPES) {
      let progress = { loadedBytes: 0, totalBytes: -1 }
      const layer = await MoeLayer.load(directory, {
        device: device as DeviceOption,
        dtype,
        layer: expected.layer,
        module: expected.module,
        onProgress: state => {
          progress = state
        },
      })
      try {
        expect(layer.dtype).toBe(dtype)
        expect(progress.loadedBytes).toBe(progress.totalBytes)
        const result = await layer.forward(Float32Array.from(expected.input), {
          tokenIds: expected.tokenIds && Int32Array.from(expected.tokenIds),
          routerInput: expected.routerInput && Float32Array.from(expected.routerInput),
          sequenceLengths: expected.sequenceLengths && Int32Array.from(expected.sequenceLengths),
        })
        expect(Array.from(result.topkIds), dtype).toEqual(expected.topkIds)
        expectClose(result.topkWeights, expected.topkWeights, WEIGHT_BOUND, `${dtype} weights`)
        expectClose(result.output, expected.output, BOUNDS[dtype], `${dtype} output`)
      } finally {
        layer.dispose()
      }
    }
  })
})
