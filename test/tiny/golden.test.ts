/** The whole decoder against PyTorch's logits, on every device. */

import { describe, expect, it } from 'vitest'
import { Decoder, LOGIT_BOUND } from '../../examples/tiny-deepseek/decoder/index.js'
import { MODEL_DIRECTORY } from '../../examples/tiny-deepseek/files.js'
import type { DType } from '../../lib/block/dtype.js'
import type { DeviceOption } from '../../lib/devices/device.js'
import { allDevices } from '../helpers/devices.js'
import { expectClose } from '../helpers/relative-error.js'
import { goldenWindows } from './golden-logits.js'

describe.each(allDevices)('golden logits on %s', device => {
  it.each<DType>(['f32', 'f16', 'bf16'])('%s', async dtype => {
    using decoder = await Decoder.load(MODEL_DIRECTORY, { device: device as DeviceOption, dtype })
    expect(decoder.device).toBe(device)
    expect(decoder.dtype).toBe(dtype)
    const windows = await goldenWindows()
    expect(windows.length).toBeGreaterThan(0)
    for (const [index, { tokens, logits, topkIds }] of windows.entries()) {
      const result = await decoder.forward([{ sequence: decoder.newSequence(), tokens }])
      expectClose(result.logits, logits, LOGIT_BOUND[dtype], `window ${index}`)
      expect(result.routing.map(({ layer }) => layer)).toEqual([...topkIds.keys()].sort((a, b) => a - b))
      // The golden windows hold no near tie, so that f32 decides every one of them alike.
      if (dtype !== 'f32') continue
      for (const { layer, topkIds: ids } of result.routing)
        expect(Array.from(ids), `layer ${layer}`).toEqual(Array.from(topkIds.get(layer)!))
    }
  })
})
