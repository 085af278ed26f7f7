/** Rows of a matrix that is stored in blocks of one of ggml's types. */

import { allocate } from '../../../block/allocate.js'
import { STORED_BYTES, STORED_ELEMENTS, STORED_FORMATS } from '../../../spec/formats.js'
import type { MatrixEncoding } from '../../plan/layer-plan.js'
import { elementReader } from '../elements.js'
import { type EncodedBuffers, malformed, type RowDecoder, requireBuffer } from '../encoded.js'
import type { GgmlBlock, GgmlLayouts } from './block.js'
import { FP4_LAYOUTS } from './fp4.js'
import { GRID_LAYOUTS } from './grid.js'
import { PLAIN_LAYOUTS } from './plain.js'
import { SUPER_LAYOUTS } from './super.js'

const LAYOUTS: GgmlLayouts = { ...PLAIN_LAYOUTS, ...SUPER_LAYOUTS, ...GRID_LAYOUTS, ...FP4_LAYOUTS }
const MAX_ELEMENTS = 256
const MAX_GROUPS = 16

export function ggmlRows(
  encoding: MatrixEncoding,
  buffers: EncodedBuffers,
  rows: number,
  cols: number,
): RowDecoder {
  const { type } = buffers.data
  const layout = LAYOUTS[type]
  if (!layout) throw malformed(`${type} is no type of ggml's blocks`)
  const perBlock = STORED_ELEMENTS[type]
  if (cols % perBlock !== 0) throw malformed(`rows of ${cols} are no whole blocks of ${type}`)
  const perRow = cols / perBlock
  const { bytes } = requireBuffer(buffers.data, 'data', STORED_FORMATS.ggml.data, rows * perRow)
  let global = 1
  if (encoding.globalScaleOp) {
    if (encoding.globalScaleOp !== 'multiply' || type !== 'NVFP4')
      throw malformed(`a global scale does not belong to ${type}`)
    const buffer = requireBuffer(buffers.globalScale, 'global scale', ['F32'], 1)
    global = elementReader(buffer.bytes, buffer.type)(0)
  }
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength)
  const block: GgmlBlock = {
    codes: allocate(Uint8Array, MAX_ELEMENTS),
    scales: allocate(Float32Array, MAX_GROUPS),
    offsets: allocate(Float32Array, MAX_GROUPS),
    scale: 1,
    offset: 0,
  }
  const { table, groupSize, hasOffset } = layout
  return (row, out, offset) => {
    for (let index = 0; index < perRow; index++) {
      layout.unpack(view, (row * perRow + index) * STORED_BYTES[type], block)
      const factor = Math.fround(block.scale * global)
      const to = offset + index * perBlock
      for (let j = 0; j < perBlock; j++) {
        const group = Math.floor(j / groupSize)
        const value = Math.fround(table[block.codes[j]!]! * Math.fround(factor * block.scales[group]!))
        out[to + j] = hasOffset ? value + Math.fround(block.offset * block.offsets[group]!) : value
      }
    }
  }
}
