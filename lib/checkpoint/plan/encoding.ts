/** Recognises from the tensors that are there how a matrix is stored, and gives its {@link MatrixEncoding} and segments. */

import { FLOAT_TYPES, STORED_FORMATS } from '../../spec/formats.js'
import { IntegerReader } from './encoding-integers.js'
import type { EncodedSource, MatrixEncoding } from './layer-plan.js'
import type { MatrixParts, Part } from './parts.js'
import { type Quantization, unsupportedTensor } from './quantization.js'

/** Elements that share a scale in the MX formats, and in NVFP4. */
const MX_BLOCK = 32
const NV_BLOCK = 16
const E8M0_TYPES = ['U8', 'F8_E8M0']

/** The parts that can hold a matrix's elements. */
const DATA = ['weight', 'weight_packed', 'qweight', 'blocks'] as const

/** More to do than decoding: what SVDQuant adds to the product. */
const BESIDE = ['svdquant_lora_a', 'weight_lora_a'] as const

/** What config.json calls checkpoints of ModelOpt, whose own description may stand in hf_quant_config.json alone. */
const METHODS_OF_INT4_ROWS = ['modelopt', 'none']

const FP8_TYPES = ['F8_E4M3', 'F8_E5M2']

type Block = readonly [number, number]
export const ceilDiv = (a: number, b: number) => Math.ceil(a / b)
const isBlock = (dtype: string): boolean => (STORED_FORMATS.ggml.data as readonly string[]).includes(dtype)
const isFloat = (dtype: string) => (FLOAT_TYPES as readonly string[]).includes(dtype)
const product = (shape: readonly number[]) => shape.reduce((all, length) => all * length, 1)

/** ModelOpt keeps the dimensions inside a block as ones: `[rows of blocks, 1, columns of blocks, 1]`. */
function squeezedGrid({ shape }: Part): readonly number[] {
  const [rows = 0, inRow, cols = 0, inCol] = shape
  return shape.length === 4 && inRow === 1 && inCol === 1 ? [rows, cols] : shape
}

/** Reads matrices `[rows, cols]` from their parts. */
export class EncodingReader {
  private readonly quantization: Quantization
  private readonly integers: IntegerReader

  constructor(quantization: Quantization) {
    this.quantization = quantization
    this.integers = new IntegerReader(quantization)
  }

  private dataOf(parts: MatrixParts): { name: (typeof DATA)[number]; part: Part } | undefined {
    for (const name of DATA) {
      const part = parts.find(name)
      if (part) return { name, part }
    }
    return undefined
  }

  has(parts: MatrixParts): boolean {
    return DATA.some(name => parts.has(name))
  }

  /** `[out, in]` as far as the shape of what is stored tells; 0 where it does not. */
  size(parts: MatrixParts): readonly [number, number] {
    const data = this.dataOf(parts)
    if (!data) throw parts.missing('weight')
    const { name, part } = data
    const [first = 0, second = 0] = part.shape
    if (name === 'blocks' && part.shape.length === 3) return [first, second * MX_BLOCK]
    if (part.shape.length !== 2)
      throw parts.tensors.mismatch(part.tensor, 'a matrix for each expert or linear')
    if (name === 'qweight') return this.integers.qweightSize(part)
    if (this.isQuarkInt4(name, part)) return this.integers.quarkSize(part)
    if (part.dtype === 'U8' && this.isInt4Rows(parts)) return [2 * first, second]
    const perElement = part.dtype === 'U8' || (part.dtype === 'I8' && this.isFp4(parts)) ? 2 : 1
    if (part.dtype === 'I32') return [first, 0]
    return parts.transposed ? [second, first * perElement] : [first, second * perElement]
  }

  /** DeepSeek-V4 stores pairs of e2m1 as I8, with `scale` where others have `weight_scale`. */
  private isFp4(parts: MatrixParts): boolean {
    return parts.find('scale')?.dtype === 'F8_E8M0'
  }

  private isQuarkInt4(name: string, part: Part): boolean {
    return name === 'weight' && part.dtype === 'I32' && this.quantization.method === 'quark'
  }

  /** Bytes whose scales are plain floats are ModelOpt's pairs of integers; those of e2m1 have scales in e4m3 or e8m0. */
  private isInt4Rows(parts: MatrixParts): boolean {
    return (
      isFloat(parts.find('weight_scale')?.dtype ?? '') &&
      METHODS_OF_INT4_ROWS.includes(this.quantization.method)
    )
  }

  read(parts: MatrixParts, rows: number, cols: number): EncodedSource {
    const source = this.readElements(parts, rows, cols)
    // ModelOpt's AWQ multiplies the input by it before the product: the same as the columns of the weights.
    const columnScale = parts.find('pre_quant_scale')
    if (!columnScale) return source
    parts.expectVector(columnScale, FLOAT_TYPES, cols)
    return { ...source, columnScale: columnScale.segment }
  }

  private readElements(parts: MatrixParts, rows: number, cols: number): EncodedSource {
    const data = this.dataOf(parts)
    if (!data) throw parts.missing('weight')
    const { name, part } = data
    for (const extra of BESIDE) {
      const beside = parts.find(extra)
      if (beside) {
        const what = `weights with '${beside.tensor.name}' beside them, which adds to the product,`
        throw unsupportedTensor(parts, part, this.quantization, what)
      }
    }
    const isOrdered = this.quantization.schemes.some(scheme => scheme.ordered && scheme.type !== 'int')
    if (isOrdered && part.dtype !== 'I32' && part.dtype !== 'I8' && parts.has('weight_g_idx'))
      throw unsupportedTensor(
        parts,
        part,
        this.quantization,
        'floats whose columns are grouped in another order',
      )
    if (name === 'blocks') return this.readBlocks(parts, part, rows, cols)
    if (name === 'qweight') return this.integers.readQweight(parts, part, rows, cols)
    if (isBlock(part.dtype)) return this.readBlocksOfGgml(parts, part, rows, cols)
    if (isFloat(part.dtype)) return this.readFloat(parts, part, rows, cols)
    if (FP8_TYPES.includes(part.dtype)) return this.readFp8(parts, part, rows, cols)
    const isInt4Rows = part.dtype === 'U8' && this.isInt4Rows(parts)
    if (!isInt4Rows && (part.dtype === 'U8' || (part.dtype === 'I8' && this.isFp4(parts))))
      return this.readFp4(parts, part, rows, cols)
    if (parts.transposed) throw unsupportedTensor(parts, part, this.quantization, 'integers, input-major')
    if (isInt4Rows) return this.integers.readInt4Rows(parts, part, rows, cols)
    if (this.isQuarkInt4(name, part)) return this.integers.readQuarkInt4(parts, part, rows, cols)
    if (part.dtype === 'U32')
      throw unsupportedTensor(parts, part, this.quantization, 'weights in U32, as MLX packs them,')
    if (part.dtype === 'I8') return this.integers.readInt8(parts, part, rows, cols)
    if (name === 'weight_packed' && part.dtype === 'I32')
      return this.integers.readPacked(parts, part, rows, cols)
    throw unsupportedTensor(parts, part, this.quantization, `weights in ${part.dtype}`)
  }

  private readFloat(parts: MatrixParts, data: Part, rows: number, cols: number): EncodedSource {
    const { transposed } = parts
    parts.expect(data, FLOAT_TYPES, transposed ? [cols, rows] : [rows, cols])
    for (const suffix of ['weight_scale_inv', 'weight_scale', 'scale']) {
      const scale = parts.find(suffix)
      if (scale)
        throw parts.tensors.unsupported(
          data.tensor,
          `has '${scale.tensor.name}' beside it but is not quantised; one of the two does not belong here`,
        )
    }
    const encoding: MatrixEncoding = transposed ? { codec: 'float', transposed } : { codec: 'float' }
    return { encoding, data: data.segment }
  }

  private readFp8(parts: MatrixParts, data: Part, rows: number, cols: number): EncodedSource {
    const { transposed } = parts
    parts.expect(data, FP8_TYPES, transposed ? [cols, rows] : [rows, cols])
    const scale = parts.require('weight_scale_inv', 'weight_scale', 'scale')
    const [blockRows, blockCols] = this.fp8Block(parts, data, scale, rows, cols)
    return {
      encoding: {
        codec: 'float',
        ...(transposed ? { transposed } : {}),
        block: { rows: blockRows, cols: blockCols },
      },
      data: data.segment,
      scale: scale.segment,
    }
  }

  /** One scale for all, one per output, or a grid. */
  private fp8Block(parts: MatrixParts, data: Part, scale: Part, rows: number, cols: number): Block {
    const { transposed } = parts
    const types = STORED_FORMATS.float.scale
    if (product(scale.shape) === 1) {
      parts.expectVector(scale, types, 1)
      return [rows, cols]
    }
    // As the elements lie, so does the grid.
    const squeezed = squeezedGrid(scale)
    const shape = transposed && squeezed.length === 2 ? [...squeezed].reverse() : squeezed
    const [first = 0, second] = shape
    if (first === rows && (second === undefined || (second === 1 && shape.length === 2))) {
      parts.expectVector(scale, types, rows)
      return [1, cols]
    }
    const { schemes, block } = this.quantization
    const grid = ([r, c]: Block) => [ceilDiv(rows, r), ceilDiv(cols, c)]
    const named: Block[] = schemes.flatMap(scheme =>
      scheme.block
        ? [scheme.block]
        : scheme.strategy === 'group' && scheme.groupSize
          ? [[1, scheme.groupSize]]
          : [],
    )
    const mx: Block[] = E8M0_TYPES.includes(scale.dtype) ? [[1, MX_BLOCK]] : []
    const candidates: Block[] = [...named, ...(block ? [block] : []), ...mx, [128, 128]]
    const fits = (candidate: Block) => grid(candidate).every((length, i) => shape[i] === length)
    const fitting = candidates.find(fits)
    if (!fitting && named.length === 0 && !block)
      throw unsupportedTensor(
        parts,
        data,
        this.quantization,
        `fp8 with scales [${scale.shape.join(', ')}], whose blocks no config names and which are not 128 by 128,`,
      )
    const chosen = fitting ?? candidates[0]!
    parts.expect({ ...scale, shape: squeezed }, types, transposed ? grid(chosen).reverse() : grid(chosen))
    return chosen
  }

  /** Rows of blocks that hold their scales. NVFP4 may have a factor of the whole matrix beside it, in either of two places. */
  private readBlocksOfGgml(parts: MatrixParts, data: Part, rows: number, cols: number): EncodedSource {
    const { tensors } = parts
    parts.expect(data, [data.dtype], [rows, cols])
    const factor = parts.find('scale') ?? parts.find('weight.scale')
    if (data.dtype !== 'NVFP4') {
      if (factor)
        throw tensors.unsupported(
          data.tensor,
          `has '${factor.tensor.name}' beside it, which only NVFP4 has; one of the two does not belong here`,
        )
      return { encoding: { codec: 'ggml' }, data: data.segment }
    }
    if (!factor) return { encoding: { codec: 'ggml' }, data: data.segment }
    parts.expectVector(factor, ['F32'], 1)
    return {
      encoding: { codec: 'ggml', globalScaleOp: 'multiply' },
      data: data.segment,
      globalScale: factor.segment,
    }
  }

  /** gpt-oss: `[rows, groups, 16]` bytes of two e2m1 each. */
  private readBlocks(parts: MatrixParts, data: Part, rows: number, cols: number): EncodedSource {
    if (cols % MX_BLOCK !== 0)
      throw parts.tensors.mismatch(data.tensor, `of ${cols} columns, which are no multiple of ${MX_BLOCK},`)
    const scale = parts.require('scales')
    parts.expect(data, ['U8'], [rows, cols / MX_BLOCK, MX_BLOCK / 2])
    parts.expect(scale, E8M0_TYPES, [rows, cols / MX_BLOCK])
    return {
      encoding: { codec: 'e2m1', block: { rows: 1, cols: MX_BLOCK } },
      data: data.segment,
      scale: scale.segment,
    }
  }

  /**
   * Two e2m1 per byte. MXFP4 has an e8m0 scale per 32 and no other; NVFP4 an e4m3 scale per 16 and one of the whole matrix, which
   * ModelOpt multiplies (`weight_scale_2`) and compressed-tensors divides by (`weight_global_scale`).
   */
  private readFp4(parts: MatrixParts, data: Part, rows: number, cols: number): EncodedSource {
    if (cols % 2 !== 0)
      throw parts.tensors.mismatch(data.tensor, `of an even number of columns, not ${cols},`)
    const { transposed } = parts
    const oriented = (columns: number) => (transposed ? [columns, rows] : [rows, columns])
    parts.expect(data, ['U8', 'I8'], oriented(cols / 2))
    const scale = parts.require('weight_scale', 'scale', 'weight_scale_inv')
    const isMx = E8M0_TYPES.includes(scale.dtype)
    const fits = (width: number) => product(scale.shape) === rows * ceilDiv(cols, width)
    const isNvInBytes = scale.dtype === 'U8' && !fits(MX_BLOCK) && fits(NV_BLOCK)
    if (isNvInBytes || (!isMx && scale.dtype !== 'F8_E4M3'))
      throw unsupportedTensor(parts, data, this.quantization, `pairs in bytes with scales in ${scale.dtype}`)
    const width = isMx ? MX_BLOCK : NV_BLOCK
    parts.expect(scale, isMx ? E8M0_TYPES : ['F8_E4M3'], oriented(ceilDiv(cols, width)))
    const encoding: MatrixEncoding = {
      codec: 'e2m1',
      ...(transposed ? { transposed } : {}),
      block: { rows: 1, cols: width },
    }
    if (isMx) return { encoding, data: data.segment, scale: scale.segment }
    const multiplied = parts.find('weight_scale_2') ?? parts.find('scale2')
    const globalScale = multiplied ?? parts.require('weight_global_scale', 'weight_scale_2')
    parts.expectVector(globalScale, ['F32'], 1)
    return {
      encoding: { ...encoding, globalScaleOp: multiplied ? 'multiply' : 'divide' },
      data: data.segment,
      scale: scale.segment,
      globalScale: globalScale.segment,
    }
  }
}
