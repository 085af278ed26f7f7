/** With `activations: 'int8'` the reference rounds rows for the matrices for which the CPU does, in every form and under every option. */

import { expect, it } from 'vitest'
import { WEIGHTS_OPTIONS } from '../../lib/block/weight-format.js'
import type { EncodedBuffer } from '../../lib/checkpoint/load/encoded.js'
import { withGroupOrder } from '../../lib/checkpoint/load/group-order.js'
import { int8Matrix } from '../../lib/checkpoint/load/int8-matrices.js'
import type { MatrixItem } from '../../lib/checkpoint/plan/layer-plan.js'
import { loadNative } from '../../lib/devices/native/addon.js'
import { type EncodedCase, encodedCases } from '../helpers/checkpoint-encodings.js'
import { nativeDevices } from '../helpers/devices.js'

function itemOf({ encoding, buffers, rows, cols }: EncodedCase): MatrixItem {
  const segment = ({ bytes, type }: EncodedBuffer) => ({
    ...{ file: 0, offset: 0, name: 'w' },
    ...{ bytes: bytes.byteLength, type },
  })
  const parts = Object.entries(buffers).flatMap(([part, buffer]) => (buffer ? [[part, segment(buffer)]] : []))
  const item = {
    role: 'expert',
    expert: 0,
    matrix: 'down',
    rows,
    cols,
    encoding,
    ...Object.fromEntries(parts),
  }
  return buffers.groupIndex ? withGroupOrder(item, buffers.groupIndex.bytes) : item
}

// 'auto' may expand what is as large as its panels, which is small.
const options = WEIGHTS_OPTIONS.filter(weights => weights !== 'auto')

it.skipIf(!nativeDevices.includes('cpu')).each(options)('%s', weights => {
  const cases = encodedCases(5)
  const items = cases.map(itemOf)
  const { formatOf, takesInt8 } = loadNative().chooseFormats('cpu', 'f32', weights, false, items)
  const isRounded = items.map((item, i) => {
    const groups = cases[i]!.buffers.groupIndex?.bytes
    return int8Matrix(item, item, item.cols, weights, groups) !== null
  })
  for (const [i, { label }] of cases.entries()) expect(isRounded[i], label).toBe(takesInt8![formatOf[i]!])
  expect(isRounded.includes(true)).toBe(weights !== 'expand')
})
