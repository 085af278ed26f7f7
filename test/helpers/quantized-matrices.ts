/** Random quantised matrices in every form, with weights of about the size of a trained layer's. */

import { numberToF16 } from '../../lib/block/dtype.js'
import type { QuantizedFormat, QuantizedMatrix } from '../../lib/index.js'
import type { Random } from '../cases/random.js'
import { ggmlGolden } from './ggml-golden.js'

const golden = new Map(ggmlGolden().map(row => [row.type.toLowerCase(), row]))

const bytes = (random: Random, length: number) => Uint8Array.from({ length }, () => random.integer(256))

/** Blocks of ggml's own data whose values are so small that the intermediate values of a layer fit in f16. */
export function moderateBlocks(type: string): Uint8Array[] {
  const { stored, values, elements, bytes, blocks } = golden.get(type.toLowerCase())!
  const all = Array.from({ length: blocks }, (_, b) => b)
  return all
    .filter(b => {
      const largest = values
        .subarray(b * elements, (b + 1) * elements)
        .reduce((most, value) => Math.max(most, Math.abs(value)), 0)
      return largest > 1e-3 && largest < 4
    })
    .map(b => stored.subarray(b * bytes, (b + 1) * bytes))
}

const ggmlName = (format: QuantizedFormat) => format.toLowerCase().replace('ggml_', '')

function ggmlBlocks(format: QuantizedFormat, elements: number, random: Random): Uint8Array {
  const usable = moderateBlocks(ggmlName(format))
  const count = elements / golden.get(ggmlName(format))!.elements
  const blocks = Array.from({ length: count }, () => usable[random.integer(usable.length)]!)
  return Uint8Array.from(Buffer.concat(blocks))
}

/** One matrix `[rows, cols]`; cols is a multiple of 256. */
export function randomQuantized(
  format: QuantizedFormat,
  rows: number,
  cols: number,
  random: Random,
): QuantizedMatrix {
  const scale = () => (0.5 + random.integer(1000) / 1000) / Math.sqrt(cols)
  const f16 = (length: number, size: number) =>
    Uint16Array.from({ length }, () => numberToF16(scale() / size))
  switch (format) {
    case 'int8':
      return {
        format,
        data: Int8Array.from(bytes(random, rows * cols)),
        scales: f16(rows * (cols / 32), 74),
      }
    case 'int4':
      return {
        format,
        data: bytes(random, (rows * cols) / 2),
        scales: f16(rows * (cols / 32), 4.6),
        zeros: bytes(random, rows * (cols / 32)).map(zero => 5 + (zero % 6)),
      }
    case 'fp8':
      return {
        format,
        // No NaN, and nothing above 30.
        data: bytes(random, rows * cols).map(code => code & 0xdf),
        scales: Float32Array.from(
          { length: Math.ceil(rows / 128) * Math.ceil(cols / 128) },
          () => scale() / 4,
        ),
      }
    case 'mxfp4':
      return {
        format,
        data: bytes(random, (rows * cols) / 2),
        scales: bytes(random, rows * (cols / 32)).map(code => 119 + (code % 4)),
      }
    case 'nvfp4':
      return {
        format,
        data: bytes(random, (rows * cols) / 2),
        scales: bytes(random, rows * (cols / 16)).map(code => 0x30 + (code % 16)),
        globalScale: scale() / 4,
      }
    default:
      return { format, data: ggmlBlocks(format, rows * cols, random) }
  }
}
