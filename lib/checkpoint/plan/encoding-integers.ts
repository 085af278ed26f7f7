/** Integers: compressed-tensors (packed, or a byte each), and the packed words of GPTQ and AWQ. */

import { FLOAT_TYPES } from '../../spec/formats.js'
import type { EncodedSource, MatrixEncoding } from './layer-plan.js'
import type { MatrixParts, Part } from './parts.js'
import { type Quantization, unsupportedTensor, type WeightScheme } from './quantization.js'

const PACKED_BITS: readonly number[] = [2, 4, 8]
const GPTQ_BITS: readonly number[] = [2, 3, 4, 8]
const WORD_BITS = 32
const ceilDiv = (a: number, b: number) => Math.ceil(a / b)

const isPacked = (scheme: WeightScheme) => scheme.type === 'int' && PACKED_BITS.includes(scheme.numBits)

/** A config group of integers that fit a byte. */
const isByte = (scheme: WeightScheme) => scheme.type === 'int' && scheme.numBits <= 8

/** Rows and columns that share a scale in a config group of integers. */
function blockOf({ strategy, groupSize, block }: WeightScheme, rows: number, cols: number) {
  if (strategy === 'tensor') return { rows, cols }
  if (strategy === 'block' && block) return { rows: block[0], cols: block[1] }
  return { rows: 1, cols: strategy === 'group' ? groupSize || cols : cols }
}

/** A config group as the shape of the scales tells it, for formats whose config has no groups. */
function schemeOf(scale: Part, rows: number, cols: number): WeightScheme {
  const numScales = scale.shape.reduce((product, length) => product * length, 1)
  const groups = scale.shape.length === 2 && scale.shape[0] === rows ? scale.shape[1]! : 1
  const strategy = numScales === 1 ? 'tensor' : groups > 1 ? 'group' : 'channel'
  const groupSize = groups > 1 ? ceilDiv(cols, groups) : 0
  return { numBits: 8, type: 'int', strategy, groupSize, symmetric: true, block: null, ordered: false }
}

/** A matrix of packed words with a row of scales for each group of columns. */
interface PackedMatrix {
  parts: MatrixParts
  data: Part
  scale: Part
  block: NonNullable<MatrixEncoding['block']>
  rows: number
  cols: number
}

/** Reads integer matrices `[rows, cols]` from their parts. */
export class IntegerReader {
  private readonly quantization: Quantization

  constructor(quantization: Quantization) {
    this.quantization = quantization
  }

  /** compressed-tensors "pack-quantized"; the config group is the first whose shapes fit. */
  readPacked(parts: MatrixParts, data: Part, rows: number, cols: number): EncodedSource {
    const scale = parts.require('weight_scale')
    const schemes = this.quantization.schemes.filter(isPacked)
    if (schemes.length === 0) {
      const widths = this.quantization.schemes.map(({ numBits, type }) => `${numBits} bit ${type}`)
      const what =
        widths.length > 0 ? `pack-quantized ${widths.join(', ')}` : 'packed integers of unknown width'
      throw unsupportedTensor(parts, data, this.quantization, `${what}; packed integers have 2, 4 or 8 bits`)
    }
    const packedCols = (scheme: WeightScheme) => ceilDiv(cols * scheme.numBits, WORD_BITS)
    const numGroups = (scheme: WeightScheme) =>
      scheme.strategy === 'group' ? ceilDiv(cols, scheme.groupSize || cols) : 1
    const scheme =
      schemes.find(
        candidate =>
          data.shape[1] === packedCols(candidate) &&
          (scale.shape[1] ?? 1) === numGroups(candidate) &&
          scale.shape[0] === rows,
      ) ?? schemes[0]!
    const groups = numGroups(scheme)
    parts.expect(data, ['I32'], [rows, packedCols(scheme)])
    if (scheme.strategy === 'tensor') parts.expectVector(scale, FLOAT_TYPES, 1)
    else if (groups === 1) parts.expectVector(scale, FLOAT_TYPES, rows)
    else parts.expect(scale, FLOAT_TYPES, [rows, groups])
    const bits = scheme.numBits as 2 | 4 | 8

    const zeroPoint = parts.find('weight_zero_point')
    if (!zeroPoint && !scheme.symmetric) throw parts.missing('weight_zero_point')
    if (zeroPoint) parts.expect(zeroPoint, ['I32'], [ceilDiv(rows * bits, WORD_BITS), groups])
    const groupIndex = parts.findFilled('weight_g_idx')
    if (!groupIndex && scheme.ordered && groups > 1) throw parts.missing('weight_g_idx')
    if (groupIndex) parts.expect(groupIndex, ['I32'], [cols])
    return {
      encoding: { codec: 'packedInt', bits, block: blockOf(scheme, rows, cols) },
      data: data.segment,
      scale: scale.segment,
      ...(zeroPoint ? { zeroPoint: zeroPoint.segment } : {}),
      ...(groupIndex ? { groupIndex: groupIndex.segment } : {}),
    }
  }

  /** compressed-tensors "int-quantized" and Quark's int8; the config group is the first with as many scales as there are. */
  readInt8(parts: MatrixParts, data: Part, rows: number, cols: number): EncodedSource {
    const scale = parts.find('weight_scale')
    if (!scale)
      throw unsupportedTensor(parts, data, this.quantization, `weights in I8 without 'weight_scale'`)
    const numScales = scale.shape.reduce((product, length) => product * length, 1)
    const schemes = this.quantization.schemes.filter(isByte)
    const grid = (scheme: WeightScheme) => {
      const block = blockOf(scheme, rows, cols)
      return [ceilDiv(rows, block.rows), ceilDiv(cols, block.cols)] as const
    }
    const numBlocks = (scheme: WeightScheme) => grid(scheme)[0] * grid(scheme)[1]
    const scheme =
      schemes.find(candidate => numBlocks(candidate) === numScales) ??
      schemes[0] ??
      schemeOf(scale, rows, cols)
    const expectGrid = (part: Part, types: readonly string[]) => {
      const [gridRows, gridCols] = grid(scheme)
      if (gridCols === 1) parts.expectVector(part, types, gridRows)
      else parts.expect(part, types, [gridRows, gridCols])
    }
    parts.expect(data, ['I8'], [rows, cols])
    expectGrid(scale, FLOAT_TYPES)
    const zeroPoint = parts.find('weight_zero_point')
    if (!zeroPoint && !scheme.symmetric) throw parts.missing('weight_zero_point')
    if (zeroPoint) expectGrid(zeroPoint, ['I8'])
    const groupIndex = parts.findFilled('weight_g_idx')
    if (!groupIndex && scheme.ordered && grid(scheme)[1] > 1) throw parts.missing('weight_g_idx')
    if (groupIndex) parts.expect(groupIndex, ['I32'], [cols])
    return {
      encoding: { codec: 'int8', block: blockOf(scheme, rows, cols) },
      data: data.segment,
      scale: scale.segment,
      ...(zeroPoint ? { zeroPoint: zeroPoint.segment } : {}),
      ...(groupIndex ? { groupIndex: groupIndex.segment } : {}),
    }
  }

  /** `[out, in]` of packed words; the input of GPTQ follows from the width, which its words alone do not tell. */
  qweightSize(data: Part): readonly [number, number] {
    const [first = 0, second = 0] = data.shape
    return this.quantization.method === 'awq' ? [second * 8, first] : [second, 0]
  }

  /** `[out, in]` of Quark's int4, whose words hold eight outputs. */
  quarkSize(data: Part): readonly [number, number] {
    const [first = 0, second = 0] = data.shape
    return [second * 8, first]
  }

  /** Quark's int4 and uint4 in groups: as AWQ packs, under other names. */
  readQuarkInt4(parts: MatrixParts, data: Part, rows: number, cols: number): EncodedSource {
    const int4 = this.quantization.quarkInt4
    const refuse = (what: string) => unsupportedTensor(parts, data, this.quantization, what)
    if (!int4) throw refuse("weights in I32 of which config.json's weight.dtype says neither int4 nor uint4")
    if (rows % 8 !== 0) throw refuse(`int4 of ${rows} outputs, no multiple of 8`)
    parts.expect(data, ['I32'], [cols, rows / 8])
    const scale = parts.require('weight_scale')
    const [first = 0, second = 0] = scale.shape
    if (second !== rows && first === rows)
      throw refuse('int4 with scales by output, as Quark below 1.0 wrote them,')
    // Groups are as wide as their number tells: the config may describe other layers otherwise.
    const groupSize = ceilDiv(cols, first)
    const groups = ceilDiv(cols, groupSize)
    parts.expect(scale, FLOAT_TYPES, [groups, rows])
    const zeroPoint = parts.find('weight_zero_point')
    if (!zeroPoint && !int4.signed) throw parts.missing('weight_zero_point')
    if (zeroPoint) parts.expect(zeroPoint, ['I32'], [groups, rows / 8])
    return {
      encoding: {
        codec: 'awq',
        ...(int4.signed ? { signed: true } : {}),
        block: { rows: 1, cols: groupSize },
      },
      data: data.segment,
      scale: scale.segment,
      ...(zeroPoint ? { zeroPoint: zeroPoint.segment } : {}),
    }
  }

  /** ModelOpt's int4: two outputs to a byte, a scale per group of inputs. */
  readInt4Rows(parts: MatrixParts, data: Part, rows: number, cols: number): EncodedSource {
    const second = parts.find('weight_scale_2')
    if (second)
      throw unsupportedTensor(
        parts,
        data,
        this.quantization,
        `int4 with a second scale '${second.tensor.name}'`,
      )
    parts.expect(data, ['U8'], [rows / 2, cols])
    const scale = parts.require('weight_scale')
    const groupSize = ceilDiv(cols, scale.shape[1] || 1)
    parts.expect(scale, FLOAT_TYPES, [rows, ceilDiv(cols, groupSize)])
    return {
      encoding: { codec: 'int4Rows', block: { rows: 1, cols: groupSize } },
      data: data.segment,
      scale: scale.segment,
    }
  }

  /** GPTQ and AWQ. */
  readQweight(parts: MatrixParts, data: Part, rows: number, cols: number): EncodedSource {
    const { quantization } = this
    const { method } = quantization
    if (method !== 'awq' && method !== 'gptq') {
      throw parts.tensors.unsupported(
        data.tensor,
        "packed words need quantization_config with quant_method 'awq', 'gptq' or 'auto-round'; add the config that belongs to these weights",
      )
    }
    const scale = parts.require('scales')
    const sizes = quantization.groupSizes.map(size => (size === -1 ? cols : size))
    const groupSize = sizes.find(size => ceilDiv(cols, size) === scale.shape[0]) ?? sizes[0]!
    const groups = ceilDiv(cols, groupSize)
    parts.expect(scale, FLOAT_TYPES, [groups, rows])
    const matrix = { parts, data, scale, block: { rows: 1, cols: groupSize }, rows, cols }
    return method === 'awq' ? this.readAwq(matrix) : this.readGptq(matrix)
  }

  private readAwq({ parts, data, scale, block, rows, cols }: PackedMatrix): EncodedSource {
    if (rows % 8 !== 0)
      throw unsupportedTensor(parts, data, this.quantization, `awq of ${rows} outputs, no multiple of 8`)
    const zeroPoint = parts.require('qzeros')
    parts.expect(data, ['I32'], [cols, rows / 8])
    parts.expect(zeroPoint, ['I32'], [ceilDiv(cols, block.cols), rows / 8])
    return {
      encoding: { codec: 'awq', block },
      data: data.segment,
      scale: scale.segment,
      zeroPoint: zeroPoint.segment,
    }
  }

  /** The width of each module follows from its words: rules of `dynamic` change it module by module. */
  private readGptq({ parts, data, scale, block, rows, cols }: PackedMatrix): EncodedSource {
    const { quantization } = this
    const packed = (data.shape[0] ?? 0) * WORD_BITS
    const stored = packed % cols === 0 ? packed / cols : 0
    // A shape that no width explains is held against the general one.
    const bits = (stored >= 1 && stored <= 8 ? stored : quantization.bits) as 2 | 3 | 4 | 8
    if (!GPTQ_BITS.includes(bits))
      throw unsupportedTensor(parts, data, quantization, `gptq of ${bits} bits; 2, 3, 4 and 8 are read`)
    const numWords = (length: number) => (length * bits) / WORD_BITS
    if (!Number.isInteger(numWords(rows)) || !Number.isInteger(numWords(cols)))
      throw unsupportedTensor(
        parts,
        data,
        quantization,
        `gptq of ${rows} by ${cols}, whose ${bits} bits fill no whole words,`,
      )
    parts.expect(data, ['I32'], [numWords(cols), rows])
    const groups = ceilDiv(cols, block.cols)
    const groupIndex = parts.findFilled('g_idx')
    if (!groupIndex && quantization.isReordered && groups > 1) throw parts.missing('g_idx')
    if (groupIndex) parts.expect(groupIndex, ['I32'], [cols])
    // Symmetric: the zero point is the middle, and what is stored in its place differs by exporter.
    const zeroPoint = quantization.isSymmetric ? undefined : parts.require('qzeros')
    if (zeroPoint) parts.expect(zeroPoint, ['I32'], [groups, numWords(rows)])
    if (zeroPoint && bits === 3 && quantization.hasOddZeros)
      throw unsupportedTensor(
        parts,
        zeroPoint,
        quantization,
        "zero points of 3 bits that GPTQModel stores in checkpoint_format 'gptq'; sym or gptq_v2",
      )
    return {
      encoding: { codec: 'gptq', bits, block, zeroOffset: zeroPoint ? quantization.zeroOffset : 0 },
      data: data.segment,
      scale: scale.segment,
      ...(zeroPoint ? { zeroPoint: zeroPoint.segment } : {}),
      ...(groupIndex ? { groupIndex: groupIndex.segment } : {}),
    }
  }
}
