/**
 * Writes rows in ggml's types of 32 and 64 elements. Q8_0 and Q4_0 are the package's own `quantize`; for the others every block tries a few
 * scales and takes the nearest code of each value. That search is this example's: ggml's own quantisers choose scales by rules of theirs, and
 * may do a little better or worse. The K-quants and most IQ types have blocks of 256, which do not fit a model of 192 columns.
 */

import { f16ToNumber, numberToF16, quantize } from 'sparse-experts'

export const BLOCK_TYPES = ['q8_0', 'q5_1', 'q5_0', 'q4_1', 'q4_0', 'iq4_nl', 'mxfp4', 'nvfp4'] as const
export type BlockType = (typeof BLOCK_TYPES)[number]

/** A matrix in blocks, row by row. */
export interface EncodedMatrix {
  data: Uint8Array
  /** What multiplies all of it; 1 but for NVFP4. */
  globalScale: number
}

/** Columns that a block holds. */
export const blockColumns = (type: BlockType) => (type === 'nvfp4' ? 64 : 32)

const integers = (first: number, count: number) => Array.from({ length: count }, (_, code) => first + code)
const E2M1 = [0, 0.5, 1, 1.5, 2, 3, 4, 6]
const FP4 = [...E2M1, ...E2M1.map(value => -value)]
/** ggml's `kvalues_iq4nl`. */
const IQ4_NL = [-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113]

/** What the codes of a type stand for, before scale and minimum. */
const TABLES = {
  ...{ q5_1: integers(0, 32), q5_0: integers(-16, 32), q4_1: integers(0, 16) },
  ...{ iq4_nl: IQ4_NL, mxfp4: FP4, nvfp4: FP4 },
} satisfies Partial<Record<BlockType, readonly number[]>>
type SearchedType = keyof typeof TABLES

/** Shares of the scale that just reaches the largest value: a smaller one clips it and is finer for the rest. */
const SHARES = [0.75, 0.8, 0.85, 0.9, 0.95, 1, 1.05, 1.1]

/** A scale as it is stored, and the number that it stands for. */
interface Scale {
  bits: number
  value: number
}

const f16Scale = (wanted: number): Scale => {
  const bits = numberToF16(wanted)
  return { bits, value: f16ToNumber(bits) }
}

/** e8m0: the nearest power of two. */
function powerOfTwo(wanted: number): Scale {
  const exponent = wanted > 0 ? Math.max(-127, Math.min(127, Math.round(Math.log2(wanted)))) : -127
  return { bits: exponent + 127, value: 2 ** exponent }
}

/** The positive numbers of e4m3, by code: 3 bits behind the point, exponents from −6. */
const POSITIVE_E4M3 = integers(0, 127).map(code =>
  code < 8 ? code * 2 ** -9 : (1 + (code % 8) / 8) * 2 ** ((code >> 3) - 7),
)
const LARGEST_E4M3 = 448

const nearest = (table: readonly number[], value: number) => {
  let best = 0
  for (let code = 1; code < table.length; code++)
    if (Math.abs(table[code]! - value) < Math.abs(table[best]! - value)) best = code
  return best
}

function e4m3Scale(wanted: number): Scale {
  const bits = nearest(POSITIVE_E4M3, Math.abs(wanted))
  return { bits, value: POSITIVE_E4M3[bits]! }
}

const storedScale: Record<SearchedType, (wanted: number) => Scale> = {
  ...{ q5_1: f16Scale, q5_0: f16Scale, q4_1: f16Scale, iq4_nl: f16Scale },
  ...{ mxfp4: powerOfTwo, nvfp4: e4m3Scale },
}

interface Group {
  scale: Scale
  minimum: Scale
  codes: number[]
}

/** The scale with the least sum of squares, and the codes under it. */
function searchGroup(type: SearchedType, values: readonly number[]): Group {
  const table = TABLES[type]
  const [low, high] = [Math.min(...table), Math.max(...table)]
  const hasMinimum = type === 'q5_1' || type === 'q4_1'
  const minimum = hasMinimum ? f16Scale(Math.min(...values)) : { bits: 0, value: 0 }
  const shifted = values.map(value => value - minimum.value)
  const extreme = shifted.reduce((a, b) => (Math.abs(b) > Math.abs(a) ? b : a), 0)
  // Either end of the table may stand for the largest value, but for scales that have no sign.
  const hasSign = type === 'q5_0' || type === 'iq4_nl'
  const ends = hasMinimum ? [high] : hasSign ? [low, high] : [extreme < 0 ? low : high]
  let best: (Group & { error: number }) | undefined
  for (const wanted of ends.flatMap(end => SHARES.map(share => (share * extreme) / end))) {
    const scale = storedScale[type](wanted)
    const codes = shifted.map(value =>
      scale.value === 0 ? nearest(table, 0) : nearest(table, value / scale.value),
    )
    const error = codes.reduce((sum, code, i) => sum + (shifted[i]! - table[code]! * scale.value) ** 2, 0)
    if (!best || error < best.error) best = { scale, minimum, codes, error }
  }
  return best!
}

/** Half of the codes in the low nibbles, the other half in the high ones. */
function putNibbles(out: Uint8Array, at: number, codes: readonly number[]): void {
  const half = codes.length / 2
  for (let j = 0; j < half; j++) out[at + j] = (codes[j]! & 15) | ((codes[j + half]! & 15) << 4)
}

const blockBytes: Record<SearchedType, number> = {
  ...{ q5_1: 24, q5_0: 22, q4_1: 20, iq4_nl: 18, mxfp4: 17, nvfp4: 36 },
}

function putBlock(type: SearchedType, view: DataView, at: number, values: readonly number[]): void {
  const out = new Uint8Array(view.buffer)
  if (type === 'nvfp4') {
    for (let group = 0; group < 4; group++) {
      const { scale, codes } = searchGroup(type, values.slice(16 * group, 16 * group + 16))
      out[at + group] = scale.bits
      putNibbles(out, at + 4 + 8 * group, codes)
    }
    return
  }
  const { scale, minimum, codes } = searchGroup(type, values)
  let position = at
  const next = (size: number) => (position += size) - size
  if (type === 'mxfp4') out[next(1)] = scale.bits
  else view.setUint16(next(2), scale.bits, true)
  if (type === 'q5_1' || type === 'q4_1') view.setUint16(next(2), minimum.bits, true)
  if (type === 'q5_1' || type === 'q5_0')
    view.setUint32(next(4), codes.reduce((bits, code, j) => bits | ((code >> 4) << j), 0) >>> 0, true)
  putNibbles(out, position, codes)
}

/** Our own codes in ggml's order: two bytes of scale before each block. */
function fromOurs(type: 'q8_0' | 'q4_0', values: Float32Array, rows: number, cols: number): Uint8Array {
  const { data, scales } = quantize(values, rows, cols, type === 'q8_0' ? 'int8' : 'int4')
  const codeBytes = type === 'q8_0' ? 32 : 16
  const out = new Uint8Array((rows * cols * (codeBytes + 2)) / 32)
  const view = new DataView(out.buffer)
  for (const [block, scale] of (scales as Uint16Array).entries()) {
    const [at, from] = [block * (codeBytes + 2), block * codeBytes]
    view.setUint16(at, scale, true)
    const bytes = data.subarray(from, from + codeBytes)
    if (type === 'q8_0') out.set(bytes, at + 2)
    // Ours are pairs of neighbours.
    else
      putNibbles(
        out,
        at + 2,
        integers(0, 32).map(j => (bytes[j >> 1]! >> (4 * (j & 1))) & 15),
      )
  }
  return out
}

/**
 * @param values `[rows, cols]`, finite
 * @param globalScale of NVFP4; a tensor of several matrices has one for all of them
 * @throws RangeError where rows are no whole blocks
 */
export function encodeMatrix(
  type: BlockType,
  values: Float32Array,
  rows: number,
  cols: number,
  globalScale = nvfp4Scale(type, values),
): EncodedMatrix {
  const perBlock = blockColumns(type)
  if (cols % perBlock !== 0) throw new RangeError(`rows of ${cols} are no blocks of ${perBlock}`)
  if (type === 'q8_0' || type === 'q4_0') return { data: fromOurs(type, values, rows, cols), globalScale: 1 }
  const count = (rows * cols) / perBlock
  const view = new DataView(new ArrayBuffer(count * blockBytes[type]))
  for (let block = 0; block < count; block++) {
    const of = values.subarray(block * perBlock, (block + 1) * perBlock)
    putBlock(
      type,
      view,
      block * blockBytes[type],
      Array.from(of, value => value / globalScale),
    )
  }
  return { data: new Uint8Array(view.buffer), globalScale }
}

/** Under it the largest value has the largest scale and the largest code. */
export function nvfp4Scale(type: BlockType, values: Float32Array): number {
  if (type !== 'nvfp4') return 1
  const largest = values.reduce((most, value) => Math.max(most, Math.abs(value)), 0)
  return Math.fround(largest / (LARGEST_E4M3 * Math.max(...E2M1))) || 1
}
