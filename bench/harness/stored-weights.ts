/**
 * Random matrices in stored forms: random codes under scales that give the weights a variance of 1 / columns. They are runs of a pool from
 * random places, for billions of random bytes take long to draw.
 */

import { Random } from '../../test/cases/random.js'
import {
  dequantize,
  type ExpertWeights,
  type MoeConfig,
  type MoeWeights,
  numberToF16,
  type QuantizedFormat,
  type QuantizedMatrix,
} from './package.js'
import { sharedSize } from './shapes.js'
import { FP8_BLOCK, ggmlType, ggmlTypeOf, type StoredForm } from './weight-kinds.js'

/** Elements of a pool, about; a prime number of blocks, so that no row begins where another does. */
const POOL_BLOCKS: Readonly<Record<number, number>> = { 1: 524_287, 32: 16_381, 256: 2_039 }

/**
 * Where a block of a ggml type has its f16 scales, and how large they are beside each other. Q4_K subtracts a minimum, 7.5 times as large as
 * a code's step, so that the mean of codes from 0 to 15 becomes 0.
 */
const SCALES: Readonly<Record<string, readonly [at: number, factor: number][]>> = {
  q4_0: [[0, 1]],
  q5_0: [[0, 1]],
  q8_0: [[0, 1]],
  q4_K: [
    [0, 1],
    [2, 7.5],
  ],
}

/** The largest exponent of e8m0 stands for 2^127. */
const E8M0_BIAS = 127
const FORMATS: Readonly<Record<string, QuantizedFormat>> = { mxfp4: 'ggml_mxfp4' }

/** Writes the scales of a block; those of MXFP4 are powers of two. */
function setScale(type: string, block: DataView, scale: number): void {
  if (type === 'mxfp4') block.setUint8(0, Math.round(Math.log2(scale)) + E8M0_BIAS)
  for (const [at, factor] of SCALES[type] ?? []) block.setUint16(at, numberToF16(factor * scale), true)
}

const rootMeanSquare = (values: Float32Array) =>
  Math.sqrt(values.reduce((sum, value) => sum + value * value, 0) / values.length)

const pools = new Map<string, Uint8Array>()

/** Blocks of a ggml type with weights of variance 1 / `cols`. */
function ggmlPool(type: string, cols: number): Uint8Array {
  const key = `${type} ${cols}`
  const known = pools.get(key)
  if (known) return known
  const { blockBytes, perBlock } = ggmlType(type)
  const count = POOL_BLOCKS[perBlock]!
  const random = new Random(cols)
  const data = Uint8Array.from({ length: count * blockBytes }, () => random.integer(256))
  const scaleAll = (scale: number) => {
    for (let block = 0; block < count; block++)
      setScale(type, new DataView(data.buffer, block * blockBytes, blockBytes), scale)
  }
  scaleAll(1)
  const format = FORMATS[type] ?? (type as QuantizedFormat)
  scaleAll(cols ** -0.5 / rootMeanSquare(dequantize({ format, data }, 1, count * perBlock)))
  pools.set(key, data)
  return data
}

/** Bytes of e4m3, none of which is NaN, and the root mean square of what they stand for. */
function fp8Pool(): Uint8Array {
  const known = pools.get('fp8')
  if (known) return known
  const random = new Random(8)
  const data = Uint8Array.from({ length: POOL_BLOCKS[1]! }, () => {
    const byte = random.integer(256)
    return (byte & 127) === 127 ? byte - 1 : byte
  })
  pools.set('fp8', data)
  return data
}

/** `length` bytes of a pool: runs of whole blocks from random places. */
function drawn(pool: Uint8Array, blockBytes: number, length: number, random: Random): Uint8Array {
  const out = new Uint8Array(length)
  for (let at = 0; at < length; ) {
    const start = blockBytes * random.integer(pool.length / blockBytes)
    const run = pool.subarray(start, start + length - at)
    out.set(run, at)
    at += run.length
  }
  return out
}

/** Raw blocks of a random matrix in a ggml type, row by row. */
export function randomBlocks(type: string, rows: number, cols: number, random: Random): Uint8Array {
  const { blockBytes, perBlock } = ggmlType(type)
  return drawn(ggmlPool(type, cols), blockBytes, (rows * cols * blockBytes) / perBlock, random)
}

/** A random matrix `[rows, cols]` in a stored form. */
export function randomStored(form: StoredForm, rows: number, cols: number, random: Random): QuantizedMatrix {
  if (form === 'fp8') {
    const pool = fp8Pool()
    const groups = Math.ceil(rows / FP8_BLOCK) * Math.ceil(cols / FP8_BLOCK)
    const scales = new Float32Array(groups).fill(cols ** -0.5 / fp8RootMeanSquare())
    return { format: 'fp8', data: drawn(pool, 1, rows * cols, random), scales }
  }
  const type = ggmlTypeOf(form, cols)
  return {
    format: FORMATS[type] ?? (type as QuantizedFormat),
    data: randomBlocks(type, rows, cols, random),
  }
}

let fp8Size: number | undefined
function fp8RootMeanSquare(): number {
  const data = fp8Pool()
  const scales = new Float32Array(Math.ceil(data.length / FP8_BLOCK)).fill(1)
  return (fp8Size ??= rootMeanSquare(dequantize({ format: 'fp8', data, scales }, 1, data.length)))
}

/** The experts of a layer, and its shared MLP where it has one. */
export function storedExperts(config: MoeConfig, form: StoredForm): Pick<MoeWeights, 'experts' | 'shared'> {
  const { hiddenSize, intermediateSize, numExperts } = config
  const random = new Random(17)
  const expert = (width: number): ExpertWeights => ({
    gate: randomStored(form, width, hiddenSize, random),
    up: randomStored(form, width, hiddenSize, random),
    down: randomStored(form, hiddenSize, width, random),
  })
  const shared = sharedSize(config)
  return {
    experts: Array.from({ length: numExperts }, () => expert(intermediateSize)),
    ...(shared ? { shared: expert(shared) } : {}),
  }
}
