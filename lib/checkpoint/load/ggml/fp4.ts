/** Types of e2m1 elements: MXFP4 (32, a scale in e8m0) and NVFP4 (64, four scales in e4m3 without sign). */

import { E2M1, E4M3, E8M0 } from '../elements.js'
import { type GgmlLayouts, lowThenHigh } from './block.js'

export const FP4_LAYOUTS: GgmlLayouts = {
  MXFP4: {
    groupSize: 32,
    hasOffset: false,
    table: E2M1,
    unpack(bytes, at, block) {
      block.scale = E8M0[bytes.getUint8(at)]!
      block.scales[0] = 1
      lowThenHigh(bytes, at + 1, 16, block.codes, 0)
    },
  },
  NVFP4: {
    groupSize: 16,
    hasOffset: false,
    table: E2M1,
    unpack(bytes, at, block) {
      // The factor of the whole matrix is a tensor of its own.
      block.scale = 1
      for (let group = 0; group < 4; group++) {
        const scale = E4M3[bytes.getUint8(at + group) & 127]!
        // What is NaN in e4m3 is 0.
        block.scales[group] = Number.isNaN(scale) ? 0 : scale
        lowThenHigh(bytes, at + 4 + 8 * group, 8, block.codes, 16 * group)
      }
    },
  },
}
