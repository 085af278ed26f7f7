/** Checkpoints that store all experts in one tensor: which slice of it belongs to an expert, and how that is stored. */

import { FLOAT_TYPES, STORED_FORMATS } from '../../spec/formats.js'
import type { TensorLookup } from '../tensor-lookup.js'
import { ceilDiv, type EncodedSource, MX_BLOCK } from './encoding.js'
import type { MatrixEncoding } from './layer-plan.js'
import type { Quantization } from './quantization.js'

/** Fused tensors `[E, …]` and their slices. `name` is the tensor's own, to which quantisation appends. */
export class FusedReader {
  private readonly tensors: TensorLookup
  private readonly quantization: Quantization

  constructor(tensors: TensorLookup, quantization: Quantization) {
    this.tensors = tensors
    this.quantization = quantization
  }

  has(name: string): boolean {
    return this.tensors.has(name) || this.tensors.has(`${name}_blocks`)
  }

  /** Output features of each expert. */
  numRows(name: string, major: 'output' | 'input'): number {
    const blocks = this.tensors.find(`${name}_blocks`)
    if (blocks) {
      if (blocks.shape.length !== 4) throw this.tensors.mismatch(blocks, 'U8 [experts, rows, groups, 16]')
      return blocks.shape[1]!
    }
    const data = this.tensors.require(name)
    if (data.shape.length !== 3) throw this.tensors.mismatch(data, 'of three dimensions')
    return data.shape[major === 'output' ? 1 : 2]!
  }

  /** Expert by expert, `[rows, cols]` each. */
  read(
    name: string,
    numExperts: number,
    rows: number,
    cols: number,
    major: 'output' | 'input',
  ): EncodedSource[] {
    const { tensors } = this
    const experts = Array.from({ length: numExperts }, (_, e) => e)
    const blocks = tensors.find(`${name}_blocks`)
    if (blocks) {
      const scales = tensors.require(`${name}_scales`)
      if (cols % MX_BLOCK !== 0)
        throw tensors.mismatch(blocks, `of ${cols} columns, which are no multiple of 32,`)
      tensors.expect(blocks, ['U8'], [numExperts, rows, cols / MX_BLOCK, MX_BLOCK / 2])
      tensors.expect(scales, ['U8'], [numExperts, rows, cols / MX_BLOCK])
      return experts.map(e => ({
        encoding: { codec: 'e2m1', block: { rows: 1, cols: MX_BLOCK } },
        data: tensors.segment(blocks, e, numExperts),
        scale: tensors.segment(scales, e, numExperts),
      }))
    }
    const data = tensors.require(name)
    const transposed = major === 'input'
    const shape = transposed ? [numExperts, cols, rows] : [numExperts, rows, cols]
    tensors.expect(data, STORED_FORMATS.float.data, shape)
    if (data.dtype !== 'F8_E4M3') {
      const encoding: MatrixEncoding = transposed ? { codec: 'float', transposed } : { codec: 'float' }
      return experts.map(e => ({ encoding, data: tensors.segment(data, e, numExperts) }))
    }
    if (transposed) throw tensors.unsupported(data, 'fp8 is not supported in input-major order')
    const scale = tensors.require(`${name}_scale_inv`, `${name}_scale`)
    const [blockRows, blockCols] = this.quantization.block
    const perExpert =
      scale.bytes > 0 && scale.shape.every((length, i) => length === (i === 0 ? numExperts : 1))
    const gridIsOne = rows <= blockRows && cols <= blockCols
    if (perExpert && !gridIsOne) tensors.expectVector(scale, STORED_FORMATS.float.scale, numExperts)
    else
      tensors.expect(scale, STORED_FORMATS.float.scale, [
        numExperts,
        ceilDiv(rows, blockRows),
        ceilDiv(cols, blockCols),
      ])
    const block = perExpert ? { rows, cols } : { rows: blockRows, cols: blockCols }
    return experts.map(e => ({
      encoding: { codec: 'float', block },
      data: tensors.segment(data, e, numExperts),
      scale: tensors.segment(scale, e, numExperts),
    }))
  }

  /** DBRX: `[E * rows, cols]`, or with `transposed` slices of `[cols, rows]` below each other. */
  readRows(
    name: string,
    numExperts: number,
    rows: number,
    cols: number,
    transposed: boolean,
  ): EncodedSource[] {
    const { tensors } = this
    const data = tensors.require(name)
    tensors.expect(data, FLOAT_TYPES, transposed ? [numExperts * cols, rows] : [numExperts * rows, cols])
    const encoding: MatrixEncoding = transposed ? { codec: 'float', transposed } : { codec: 'float' }
    return Array.from({ length: numExperts }, (_, e) => ({
      encoding,
      data: tensors.segment(data, e, numExperts),
    }))
  }
}
