/** Random encoded matrices of every codec, in shapes that are no multiples of anything convenient. */

import { numberToBf16, numberToF16 } from '../../lib/block/dtype.js'
import type { EncodedBuffer, EncodedBuffers } from '../../lib/checkpoint/load/encoded.js'
import type { MatrixEncoding } from '../../lib/checkpoint/plan/layer-plan.js'
import { STORED_BYTES, STORED_ELEMENTS, STORED_FORMATS, type StoredType } from '../../lib/spec/formats.js'
import { Random } from '../cases/random.js'
import { ggmlGolden } from './ggml-golden.js'

export interface EncodedCase {
  label: string
  encoding: MatrixEncoding
  buffers: EncodedBuffers
  rows: number
  cols: number
}

const ceilDiv = (a: number, b: number) => Math.ceil(a / b)

/** All bit patterns are legal, so that infinities, NaN and subnormals occur. */
function randomBytes(random: Random, count: number): Uint8Array {
  const bytes = new Uint8Array(count)
  for (let i = 0; i < count; i++) bytes[i] = random.bits() >>> 24
  return bytes
}

/** Numbers of ordinary size in a float type; for e8m0 and e4m3 all codes. */
function randomFloats(random: Random, type: StoredType, count: number): EncodedBuffer {
  const values = new Float32Array(count)
  for (let i = 0; i < count; i++) values[i] = random.normal() * 2 ** (random.integer(12) - 6)
  switch (type) {
    case 'F32':
      return { type, bytes: new Uint8Array(values.buffer) }
    case 'BF16':
      return { type, bytes: new Uint8Array(Uint16Array.from(values, numberToBf16).buffer) }
    case 'F16':
      return { type, bytes: new Uint8Array(Uint16Array.from(values, numberToF16).buffer) }
    default:
      return { type, bytes: randomBytes(random, count) }
  }
}

function randomWords(random: Random, count: number): EncodedBuffer {
  return { type: 'I32', bytes: randomBytes(random, count * 4) }
}

function groupIndex(random: Random, cols: number, numGroups: number): EncodedBuffer {
  const index = Int32Array.from({ length: cols }, () => random.integer(numGroups))
  return { type: 'I32', bytes: new Uint8Array(index.buffer) }
}

/** About three hundred matrices. */
export function encodedCases(seed: number): EncodedCase[] {
  const random = new Random(seed)
  const cases: EncodedCase[] = []
  const add = (
    name: string,
    rows: number,
    cols: number,
    encoding: MatrixEncoding,
    buffers: EncodedBuffers,
  ) => {
    const label = `${name} ${rows}x${cols} ${JSON.stringify(encoding)} ${buffers.data.type}/${buffers.scale?.type}`
    cases.push({ label, encoding, buffers, rows, cols })
  }

  const shapes = [
    [1, 1],
    [3, 17],
    [31, 257],
    [33, 300],
    [130, 260],
  ] as const
  for (const [rows, cols] of shapes) {
    for (const type of ['F32', 'F16', 'BF16', 'F8_E4M3', 'F8_E5M2'] as const) {
      for (const transposed of [false, true]) {
        const everyBit = {
          type,
          bytes: randomBytes(random, rows * cols * STORED_BYTES[type]),
        }
        add('plain', rows, cols, { codec: 'float', transposed }, { data: everyBit })
        for (const scaleType of ['F32', 'BF16', 'F16', 'F8_E8M0', 'U8'] as const) {
          const block = { rows: 1 + random.integer(40), cols: 1 + random.integer(140) }
          const scale = randomFloats(random, scaleType, ceilDiv(rows, block.rows) * ceilDiv(cols, block.cols))
          const data = randomFloats(random, type, rows * cols)
          add('scaled', rows, cols, { codec: 'float', transposed, block }, { data, scale })
        }
      }
    }
  }

  for (const [rows, cols] of [
    [1, 2],
    [5, 34],
    [33, 288],
    [40, 590],
  ] as const) {
    for (const [scaleType, width] of [
      ['F8_E8M0', 32],
      ['U8', 32],
      ['F8_E4M3', 16],
      ['F8_E4M3', 3],
    ] as const) {
      for (const globalScaleOp of [undefined, 'multiply', 'divide'] as const) {
        const block = { rows: 1, cols: width }
        const data = {
          type: random.integer(2) ? ('U8' as const) : ('I8' as const),
          bytes: randomBytes(random, (rows * cols) / 2),
        }
        const scale = randomFloats(random, scaleType, rows * ceilDiv(cols, width))
        const globalScale = globalScaleOp && randomFloats(random, 'F32', 1)
        for (const transposed of [false, true]) {
          const encoding: MatrixEncoding = { codec: 'e2m1', block, globalScaleOp, transposed }
          add('e2m1', rows, cols, encoding, { data, scale, globalScale })
        }
      }
    }
  }

  for (const [rows, cols] of [
    [1, 1],
    [7, 38],
    [17, 260],
    [40, 301],
  ] as const) {
    for (const bits of [2, 4, 8] as const) {
      for (const variant of ['symmetric', 'zeros', 'index', 'unset index', 'zeros and index', 'tensor']) {
        const block = variant === 'tensor' ? { rows, cols } : { rows: 1, cols: 1 + random.integer(40) }
        const numGroups = ceilDiv(cols, block.cols)
        const gridRows = ceilDiv(rows, block.rows)
        const perWord = 32 / bits
        const scaleType = (['F32', 'F16', 'BF16'] as const)[random.integer(3)]!
        add(
          `packed ${variant}`,
          rows,
          cols,
          { codec: 'packedInt', bits, block },
          {
            data: randomWords(random, rows * ceilDiv(cols, perWord)),
            scale: randomFloats(random, scaleType, gridRows * numGroups),
            zeroPoint: variant.includes('zeros')
              ? randomWords(random, ceilDiv(rows, perWord) * numGroups)
              : undefined,
            groupIndex: variant.includes('unset')
              ? { type: 'I32', bytes: new Uint8Array(4 * cols).fill(255) }
              : variant.includes('index')
                ? groupIndex(random, cols, numGroups)
                : undefined,
          },
        )
      }
    }
  }

  for (const [rows, cols] of shapes) {
    for (const [hasZeroPoint, hasIndex] of [
      [false, false],
      [true, false],
      [true, true],
    ]) {
      const block = { rows: 1 + random.integer(3), cols: 1 + random.integer(140) }
      const numScales = ceilDiv(rows, block.rows) * ceilDiv(cols, block.cols)
      const bytes = (count: number) => ({ type: 'I8' as const, bytes: randomBytes(random, count) })
      const scale = randomFloats(random, (['F32', 'F16', 'BF16'] as const)[random.integer(3)]!, numScales)
      const zeroPoint = hasZeroPoint ? bytes(numScales) : undefined
      const index = hasIndex ? groupIndex(random, cols, ceilDiv(cols, block.cols)) : undefined
      const data = bytes(rows * cols)
      add('int8', rows, cols, { codec: 'int8', block }, { data, scale, zeroPoint, groupIndex: index })
    }
  }

  for (const [rows, cols] of [
    [8, 8],
    [24, 40],
    [40, 264],
    [72, 520],
    [64, 288],
  ] as const) {
    const codecs = [
      ...([false, true] as const).map(signed => ({ codec: 'awq', signed }) as const),
      ...([2, 3, 4, 8] as const).map(bits => ({ codec: 'gptq', bits }) as const),
    ]
    for (const kind of codecs as readonly Pick<MatrixEncoding, 'codec' | 'bits' | 'signed'>[]) {
      const bits = kind.bits ?? 4
      if ((rows * bits) % 32 !== 0 || (cols * bits) % 32 !== 0) continue
      for (const variant of [0, 1, 2, 3] as const) {
        const isGptq = kind.codec === 'gptq'
        const block = { rows: 1, cols: variant === 2 ? cols : 1 + random.integer(64) }
        const numGroups = ceilDiv(cols, block.cols)
        const encoding: MatrixEncoding = { ...kind, block }
        if (isGptq) encoding.zeroOffset = variant === 0 ? 0 : 1
        // One of the variants is symmetric: it has no zero points.
        const isSymmetric = variant === 3
        add(kind.codec, rows, cols, encoding, {
          data: randomWords(random, (rows * cols * bits) / 32),
          scale: randomFloats(random, variant === 1 ? 'BF16' : 'F16', numGroups * rows),
          zeroPoint: isSymmetric ? undefined : randomWords(random, (numGroups * rows * bits) / 32),
          groupIndex: isGptq && variant === 1 ? groupIndex(random, cols, numGroups) : undefined,
        })
      }
    }
  }

  // Blocks whose values are ggml's own, and random ones in rows that cross the tiles of the native decoder.
  for (const { type, elements, blocks, stored } of ggmlGolden()) {
    const data = { type, bytes: stored }
    add('ggml golden', blocks, elements, { codec: 'ggml' }, { data })
  }
  for (const type of STORED_FORMATS.ggml.data) {
    for (const [rows, perRow] of [
      [1, 1],
      [35, 11],
    ] as const) {
      const bytes = randomBytes(random, rows * perRow * STORED_BYTES[type])
      add('ggml', rows, perRow * STORED_ELEMENTS[type], { codec: 'ggml' }, { data: { type, bytes } })
    }
  }
  const nvfp4 = { type: 'NVFP4', bytes: randomBytes(random, 33 * 5 * STORED_BYTES.NVFP4) } as const
  const globalScale = randomFloats(random, 'F32', 1)
  add('ggml', 33, 320, { codec: 'ggml', globalScaleOp: 'multiply' }, { data: nvfp4, globalScale })

  for (const [rows, cols] of [
    [2, 1],
    [6, 17],
    [66, 300],
  ] as const) {
    for (const type of ['F32', 'F16', 'BF16'] as const) {
      const block = { rows: 1 + random.integer(3), cols: 1 + random.integer(140) }
      const data = { type: 'U8' as const, bytes: randomBytes(random, (rows * cols) / 2) }
      const scale = randomFloats(random, type, ceilDiv(rows, block.rows) * ceilDiv(cols, block.cols))
      add('int4 by rows', rows, cols, { codec: 'int4Rows', block }, { data, scale })
    }
  }

  // Every tenth once more, with a scale of its columns.
  const scalable = cases.filter(({ encoding }) =>
    STORED_FORMATS[encoding.codec].parts.includes('columnScale'),
  )
  for (const { label, encoding, buffers, rows, cols } of scalable.filter((_, index) => index % 10 === 0)) {
    const columnScale = randomFloats(random, (['F32', 'F16', 'BF16'] as const)[random.integer(3)]!, cols)
    cases.push({
      label: `${label} columns/${columnScale.type}`,
      encoding,
      buffers: { ...buffers, columnScale },
      rows,
      cols,
    })
  }
  return cases
}
