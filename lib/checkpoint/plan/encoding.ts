/** Recognises from the tensors that are there how a linear layer is stored, and gives its {@link MatrixEncoding} and segments. */

import { FLOAT_TYPES, STORED_FORMATS } from '../../spec/formats.js'
import type { LocatedTensor } from '../directory.js'
import type { TensorLookup } from '../tensor-lookup.js'
import type { MatrixEncoding, MatrixItem } from './layer-plan.js'
import type { Quantization, WeightScheme } from './quantization.js'

/** The stored form of one matrix. */
export type EncodedSource = Pick<
  MatrixItem,
  'encoding' | 'data' | 'scale' | 'zeroPoint' | 'groupIndex' | 'globalScale'
>

/** Elements that share a scale in the MX formats. */
export const MX_BLOCK = 32
const NV_BLOCK = 16
const NIBBLES_PER_WORD = 8

const isFloat = (dtype: string) => (FLOAT_TYPES as readonly string[]).includes(dtype)
export const ceilDiv = (a: number, b: number) => Math.ceil(a / b)

/** A config group of integers that fit a byte. */
const isInteger = (scheme: WeightScheme) => scheme.type === 'int' && scheme.numBits <= 8

/** Rows and columns that share a scale in a config group of integers. */
function blockOf({ strategy, groupSize, block }: WeightScheme, rows: number, cols: number) {
  if (strategy === 'tensor') return { rows, cols }
  if (strategy === 'block' && block) return { rows: block[0], cols: block[1] }
  return { rows: 1, cols: strategy === 'group' ? groupSize || cols : cols }
}

/** Reads linears by name. `stem` is a linear's name without `.weight`. */
export class LinearReader {
  private readonly tensors: TensorLookup
  private readonly quantization: Quantization

  constructor(tensors: TensorLookup, quantization: Quantization) {
    this.tensors = tensors
    this.quantization = quantization
  }

  /** The tensor that holds the elements of a linear, in whichever form. */
  private dataOf(stem: string): LocatedTensor | undefined {
    const { tensors } = this
    return (
      tensors.find(`${stem}.weight`) ??
      tensors.find(`${stem}.weight_packed`) ??
      tensors.find(`${stem}.qweight`)
    )
  }

  has(stem: string): boolean {
    return this.dataOf(stem) !== undefined
  }

  /** Output features of a linear, from the shape of what is stored. */
  numRows(stem: string): number {
    const data = this.dataOf(stem)
    if (!data) throw this.tensors.missing([`${stem}.weight`])
    if (data.shape.length !== 2) throw this.tensors.mismatch(data, 'a matrix')
    if (!data.name.endsWith('.qweight')) return data.shape[0]!
    return this.quantization.method === 'awq' ? data.shape[1]! * NIBBLES_PER_WORD : data.shape[1]!
  }

  /** The linear `[rows, cols]`. */
  read(stem: string, rows: number, cols: number): EncodedSource {
    const data = this.dataOf(stem)
    if (!data) throw this.tensors.missing([`${stem}.weight`])
    if (data.name.endsWith('.qweight')) return this.readQweight(stem, data, rows, cols)
    if (data.name.endsWith('.weight_packed')) {
      return data.dtype === 'U8'
        ? this.readNvfp4(stem, data, rows, cols)
        : this.readPacked(stem, data, rows, cols)
    }
    if (isFloat(data.dtype)) return this.readFloat(stem, data, rows, cols)
    if (data.dtype === 'F8_E4M3') return this.readFp8(stem, data, rows, cols)
    if (data.dtype === 'U8') return this.readNvfp4(stem, data, rows, cols)
    if (data.dtype === 'I8') {
      return this.quantization.schemes.some(isInteger)
        ? this.readInt8(stem, data, rows, cols)
        : this.readMxfp4(stem, data, rows, cols)
    }
    throw this.tensors.unsupported(data, 'no supported format stores weights in this dtype')
  }

  private readFloat(stem: string, data: LocatedTensor, rows: number, cols: number): EncodedSource {
    this.tensors.expect(data, FLOAT_TYPES, [rows, cols])
    for (const suffix of ['weight_scale_inv', 'weight_scale', 'scale']) {
      const scale = this.tensors.find(`${stem}.${suffix}`)
      if (scale) throw this.tensors.unsupported(data, `has '${scale.name}' beside it but is not quantised`)
    }
    return { encoding: { codec: 'float' }, data: this.tensors.segment(data) }
  }

  private readFp8(stem: string, data: LocatedTensor, rows: number, cols: number): EncodedSource {
    this.tensors.expect(data, ['F8_E4M3'], [rows, cols])
    const scale = this.tensors.require(`${stem}.weight_scale_inv`, `${stem}.weight_scale`, `${stem}.scale`)
    const block = this.fp8Block(scale, rows, cols)
    return {
      encoding: { codec: 'float', block },
      data: this.tensors.segment(data),
      scale: this.tensors.segment(scale),
    }
  }

  /** One scale for all, one per row, or a grid. */
  private fp8Block(scale: LocatedTensor, rows: number, cols: number): { rows: number; cols: number } {
    const numScales = scale.shape.reduce((product, length) => product * length, 1)
    if (numScales === 1 && scale.shape.length <= 2) {
      this.tensors.expectVector(scale, STORED_FORMATS.float.scale, 1)
      return { rows, cols }
    }
    const perRow = scale.shape.length === 1 || (scale.shape.length === 2 && scale.shape[1] === 1)
    if (perRow && scale.shape[0] === rows) {
      this.tensors.expectVector(scale, STORED_FORMATS.float.scale, rows)
      return { rows: 1, cols }
    }
    const { schemes } = this.quantization
    const [blockRows, blockCols] = schemes.find(scheme => scheme.block)?.block ?? this.quantization.block
    this.tensors.expect(scale, STORED_FORMATS.float.scale, [
      ceilDiv(rows, blockRows),
      ceilDiv(cols, blockCols),
    ])
    return { rows: blockRows, cols: blockCols }
  }

  /** DeepSeek-V4: two e2m1 per byte, an e8m0 scale per 32. */
  private readMxfp4(stem: string, data: LocatedTensor, rows: number, cols: number): EncodedSource {
    if (cols % 2 !== 0) throw this.tensors.mismatch(data, `of an even number of columns, not ${cols},`)
    const scale = this.tensors.find(`${stem}.scale`)
    if (!scale) throw this.tensors.unsupported(data, 'no supported format stores weights in this dtype')
    this.tensors.expect(data, ['I8'], [rows, cols / 2])
    this.tensors.expect(scale, ['F8_E8M0'], [rows, ceilDiv(cols, MX_BLOCK)])
    return {
      encoding: { codec: 'e2m1', block: { rows: 1, cols: MX_BLOCK } },
      data: this.tensors.segment(data),
      scale: this.tensors.segment(scale),
    }
  }

  /** NVFP4: e4m3 scale per 16 and one of the whole matrix, which ModelOpt multiplies and compressed-tensors divides by. */
  private readNvfp4(stem: string, data: LocatedTensor, rows: number, cols: number): EncodedSource {
    if (cols % 2 !== 0) throw this.tensors.mismatch(data, `of an even number of columns, not ${cols},`)
    const multiply = data.name.endsWith('.weight')
    const scale = this.tensors.require(`${stem}.weight_scale`)
    const globalScale = this.tensors.require(`${stem}.${multiply ? 'weight_scale_2' : 'weight_global_scale'}`)
    this.tensors.expect(data, ['U8'], [rows, cols / 2])
    this.tensors.expect(scale, ['F8_E4M3'], [rows, ceilDiv(cols, NV_BLOCK)])
    this.tensors.expectVector(globalScale, ['F32'], 1)
    return {
      encoding: {
        codec: 'e2m1',
        block: { rows: 1, cols: NV_BLOCK },
        globalScaleOp: multiply ? 'multiply' : 'divide',
      },
      data: this.tensors.segment(data),
      scale: this.tensors.segment(scale),
      globalScale: this.tensors.segment(globalScale),
    }
  }

  /** compressed-tensors "pack-quantized"; the config group is the first whose shapes fit. */
  private readPacked(stem: string, data: LocatedTensor, rows: number, cols: number): EncodedSource {
    const { tensors } = this
    const scale = tensors.require(`${stem}.weight_scale`)
    const schemes = this.quantization.schemes.filter(
      scheme => scheme.type === 'int' && (scheme.numBits === 4 || scheme.numBits === 8),
    )
    if (schemes.length === 0) {
      throw tensors.unsupported(data, 'config.json has no config group of 4 or 8 bit integers')
    }
    const packedCols = (scheme: WeightScheme) => ceilDiv(cols * scheme.numBits, 32)
    const numGroups = (scheme: WeightScheme) =>
      scheme.strategy === 'group' ? ceilDiv(cols, scheme.groupSize || cols) : 1
    const scheme =
      schemes.find(
        candidate =>
          data.shape[1] === packedCols(candidate) &&
          scale.shape[1] === numGroups(candidate) &&
          scale.shape[0] === rows,
      ) ?? schemes[0]!
    const groups = numGroups(scheme)
    tensors.expect(data, ['I32'], [rows, packedCols(scheme)])
    if (scheme.strategy === 'tensor') tensors.expectVector(scale, FLOAT_TYPES, 1)
    else tensors.expect(scale, FLOAT_TYPES, [rows, groups])
    const bits = scheme.numBits as 4 | 8

    const zeroPoint = tensors.find(`${stem}.weight_zero_point`)
    if (!zeroPoint && !scheme.symmetric) throw tensors.missing([`${stem}.weight_zero_point`])
    if (zeroPoint) tensors.expect(zeroPoint, ['I32'], [ceilDiv(rows * bits, 32), groups])
    const groupIndex = tensors.find(`${stem}.weight_g_idx`)
    if (groupIndex) tensors.expect(groupIndex, ['I32'], [cols])
    return {
      encoding: { codec: 'packedInt', bits, block: blockOf(scheme, rows, cols) },
      data: tensors.segment(data),
      scale: tensors.segment(scale),
      ...(zeroPoint ? { zeroPoint: tensors.segment(zeroPoint) } : {}),
      ...(groupIndex ? { groupIndex: tensors.segment(groupIndex) } : {}),
    }
  }

  /** compressed-tensors "int-quantized"; the config group is the first with as many scales as there are. */
  private readInt8(stem: string, data: LocatedTensor, rows: number, cols: number): EncodedSource {
    const { tensors } = this
    const scale = tensors.require(`${stem}.weight_scale`)
    const numScales = scale.shape.reduce((product, length) => product * length, 1)
    const schemes = this.quantization.schemes.filter(isInteger)
    const grid = (scheme: WeightScheme) => {
      const block = blockOf(scheme, rows, cols)
      return [ceilDiv(rows, block.rows), ceilDiv(cols, block.cols)] as const
    }
    const numBlocks = (scheme: WeightScheme) => grid(scheme)[0] * grid(scheme)[1]
    const scheme = schemes.find(candidate => numBlocks(candidate) === numScales) ?? schemes[0]!
    const expectGrid = (tensor: LocatedTensor, types: readonly string[]) => {
      const [gridRows, gridCols] = grid(scheme)
      if (gridCols === 1) tensors.expectVector(tensor, types, gridRows)
      else tensors.expect(tensor, types, [gridRows, gridCols])
    }
    tensors.expect(data, ['I8'], [rows, cols])
    expectGrid(scale, FLOAT_TYPES)
    const zeroPoint = tensors.find(`${stem}.weight_zero_point`)
    if (!zeroPoint && !scheme.symmetric) throw tensors.missing([`${stem}.weight_zero_point`])
    if (zeroPoint) expectGrid(zeroPoint, ['I8'])
    const groupIndex = tensors.find(`${stem}.weight_g_idx`)
    if (groupIndex) throw tensors.unsupported(data, `'${groupIndex.name}' is read for packed integers only`)
    return {
      encoding: { codec: 'int8', block: blockOf(scheme, rows, cols) },
      data: tensors.segment(data),
      scale: tensors.segment(scale),
      ...(zeroPoint ? { zeroPoint: tensors.segment(zeroPoint) } : {}),
    }
  }

  private readQweight(stem: string, data: LocatedTensor, rows: number, cols: number): EncodedSource {
    const { tensors, quantization } = this
    const { method } = quantization
    if (method !== 'awq' && method !== 'gptq') {
      throw tensors.unsupported(data, "needs quantization_config with quant_method 'awq' or 'gptq'")
    }
    const zeroPoint = tensors.require(`${stem}.qzeros`)
    const scale = tensors.require(`${stem}.scales`)
    const sizes = quantization.groupSizes.map(size => (size === -1 ? cols : size))
    const groupSize = sizes.find(size => ceilDiv(cols, size) === scale.shape[0]) ?? sizes[0]!
    const groups = ceilDiv(cols, groupSize)
    const awq = method === 'awq'
    if (rows % NIBBLES_PER_WORD !== 0 || (!awq && cols % NIBBLES_PER_WORD !== 0)) {
      throw tensors.unsupported(data, `${rows} by ${cols} does not pack into words of 8`)
    }
    tensors.expect(data, ['I32'], awq ? [cols, rows / NIBBLES_PER_WORD] : [cols / NIBBLES_PER_WORD, rows])
    tensors.expect(zeroPoint, ['I32'], [groups, rows / NIBBLES_PER_WORD])
    tensors.expect(scale, FLOAT_TYPES, [groups, rows])
    const groupIndex = awq ? undefined : tensors.find(`${stem}.g_idx`)
    if (groupIndex) tensors.expect(groupIndex, ['I32'], [cols])
    const encoding: MatrixEncoding = { codec: method, block: { rows: 1, cols: groupSize } }
    if (!awq) encoding.zeroOffset = quantization.zeroOffset
    return {
      encoding,
      data: tensors.segment(data),
      scale: tensors.segment(scale),
      zeroPoint: tensors.segment(zeroPoint),
      ...(groupIndex ? { groupIndex: tensors.segment(groupIndex) } : {}),
    }
  }
}
