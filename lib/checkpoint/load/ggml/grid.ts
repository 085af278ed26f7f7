/** Types of 256 elements that store points of a grid: IQ2_XXS, IQ2_XS, IQ2_S, IQ3_XXS, IQ3_S, IQ1_S, IQ1_M. */

import { allocate } from '../../../block/allocate.js'
import { f16ToNumber } from '../../../block/dtype.js'
import { GGML_GRIDS } from '../../../spec/ggml-grids.js'
import type { GgmlBlock, GgmlLayout, GgmlLayouts } from './block.js'

/** Points of a grid, each a list of indices of levels. A code is such an index, and above it a bit that says how the level is changed. */
class Grid {
  readonly table: Float32Array
  readonly #width: number
  readonly #bits: number
  readonly #entries: Uint16Array

  /** @param changed what becomes of a level when its bit is not set, and when it is */
  constructor(name: keyof typeof GGML_GRIDS, ...changed: readonly ((level: number) => number)[]) {
    const { levels, width, bits, entries } = GGML_GRIDS[name]
    this.#width = width
    this.#bits = bits
    this.#entries = Uint16Array.from(entries.match(/.{4}/g)!, hex => Number.parseInt(hex, 16))
    this.table = allocate(Float32Array, 2 << bits)
    for (const [bit, change] of changed.entries())
      for (const [index, level] of levels.entries()) this.table[(bit << bits) + index] = change(level)
  }

  /** The codes of point `index`; the lowest of `marks` is the bit of the first. */
  put(index: number, marks: number, codes: Uint8Array, to: number): void {
    const entry = this.#entries[index]!
    const mask = (1 << this.#bits) - 1
    for (let k = 0; k < this.#width; k++)
      codes[to + k] = ((entry >> (this.#bits * k)) & mask) | (((marks >> k) & 1) << this.#bits)
  }
}

const signed = (divisor: number) => [(level: number) => level / divisor, (level: number) => -level / divisor]
const shifted = [(level: number) => level + 1 / 8, (level: number) => level - 1 / 8]

const IQ2_XXS = new Grid('IQ2_XXS', ...signed(8))
const IQ2_XS = new Grid('IQ2_XS', ...signed(8))
const IQ2_S = new Grid('IQ2_S', ...signed(8))
const IQ3_XXS = new Grid('IQ3_XXS', ...signed(4))
const IQ3_S = new Grid('IQ3_S', ...signed(1))
const IQ1 = new Grid('IQ1', ...shifted)

/** Seven signs and an eighth: the number of minus signs is even. */
const SIGNS = Uint8Array.from({ length: 128 }, (_, seven) => {
  const count = seven.toString(2).replaceAll('0', '').length
  return seven + 128 * (count % 2)
})

/** 2 s + 1 from four bits of a byte for every group: the low nibble first. */
function readNibbleScales(bytes: DataView, at: number, count: number, block: GgmlBlock): void {
  for (let group = 0; group < count; group++) {
    const byte = bytes.getUint8(at + (group >> 1))
    block.scales[group] = 2 * (group % 2 === 0 ? byte % 16 : byte >> 4) + 1
  }
}

function layout(
  { table }: Grid,
  groupSize: number,
  unpack: (bytes: DataView, at: number, block: GgmlBlock) => void,
): GgmlLayout {
  return { groupSize, hasOffset: false, table, unpack }
}

/** The scale that most of the types begin with. */
const readScale = (bytes: DataView, at: number, block: GgmlBlock) => {
  block.scale = f16ToNumber(bytes.getUint16(at, true))
}

export const GRID_LAYOUTS: GgmlLayouts = {
  IQ2_XXS: layout(IQ2_XXS, 32, (bytes, at, block) => {
    readScale(bytes, at, block)
    for (let group = 0; group < 8; group++) {
      const begin = at + 2 + 8 * group
      const word = bytes.getUint32(begin + 4, true)
      block.scales[group] = 2 * (word >>> 28) + 1
      for (let l = 0; l < 4; l++) {
        const signs = SIGNS[(word >>> (7 * l)) & 127]!
        IQ2_XXS.put(bytes.getUint8(begin + l), signs, block.codes, 32 * group + 8 * l)
      }
    }
  }),
  IQ2_XS: layout(IQ2_XS, 16, (bytes, at, block) => {
    readScale(bytes, at, block)
    readNibbleScales(bytes, at + 66, 16, block)
    for (let i = 0; i < 32; i++) {
      const word = bytes.getUint16(at + 2 + 2 * i, true)
      IQ2_XS.put(word % 512, SIGNS[word >> 9]!, block.codes, 8 * i)
    }
  }),
  IQ2_S: layout(IQ2_S, 16, (bytes, at, block) => {
    readScale(bytes, at, block)
    readNibbleScales(bytes, at + 74, 16, block)
    for (let i = 0; i < 32; i++) {
      const high = (bytes.getUint8(at + 66 + (i >> 2)) >> (2 * (i % 4))) & 3
      IQ2_S.put(bytes.getUint8(at + 2 + i) + 256 * high, bytes.getUint8(at + 34 + i), block.codes, 8 * i)
    }
  }),
  IQ3_XXS: layout(IQ3_XXS, 32, (bytes, at, block) => {
    readScale(bytes, at, block)
    for (let group = 0; group < 8; group++) {
      const word = bytes.getUint32(at + 66 + 4 * group, true)
      block.scales[group] = 2 * (word >>> 28) + 1
      for (let l = 0; l < 4; l++) {
        const signs = SIGNS[(word >>> (7 * l)) & 127]!
        const index = at + 2 + 8 * group + 2 * l
        IQ3_XXS.put(bytes.getUint8(index), signs & 15, block.codes, 32 * group + 8 * l)
        IQ3_XXS.put(bytes.getUint8(index + 1), signs >> 4, block.codes, 32 * group + 8 * l + 4)
      }
    }
  }),
  IQ3_S: layout(IQ3_S, 32, (bytes, at, block) => {
    readScale(bytes, at, block)
    readNibbleScales(bytes, at + 106, 8, block)
    for (let i = 0; i < 64; i++) {
      const high = (bytes.getUint8(at + 66 + (i >> 3)) >> (i % 8)) & 1
      const signs = bytes.getUint8(at + 74 + (i >> 1)) >> (4 * (i % 2))
      IQ3_S.put(bytes.getUint8(at + 2 + i) + 256 * high, signs, block.codes, 4 * i)
    }
  }),
  IQ1_S: layout(IQ1, 32, (bytes, at, block) => {
    readScale(bytes, at, block)
    for (let group = 0; group < 8; group++) {
      const word = bytes.getUint16(at + 34 + 2 * group, true)
      block.scales[group] = 2 * ((word >> 12) & 7) + 1
      for (let l = 0; l < 4; l++) {
        const index = bytes.getUint8(at + 2 + 4 * group + l) + 256 * ((word >> (3 * l)) & 7)
        IQ1.put(index, word >> 15 ? 255 : 0, block.codes, 32 * group + 8 * l)
      }
    }
  }),
  IQ1_M: layout(IQ1, 16, (bytes, at, block) => {
    const words = [0, 1, 2, 3].map(i => bytes.getUint16(at + 48 + 2 * i, true))
    block.scale = f16ToNumber(words.reduce((bits, word, i) => bits + ((word >> 12) << (4 * i)), 0))
    for (let group = 0; group < 16; group++)
      block.scales[group] = 2 * ((words[group >> 2]! >> (3 * (group % 4))) & 7) + 1
    for (let i = 0; i < 32; i++) {
      const high = (bytes.getUint8(at + 32 + (i >> 1)) >> (4 * (i % 2))) & 15
      IQ1.put(bytes.getUint8(at + i) + 256 * (high & 7), high & 8 ? 255 : 0, block.codes, 8 * i)
    }
  }),
}
