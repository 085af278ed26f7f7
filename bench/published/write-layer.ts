/** Writes a published layer with random weights, stream-wise: a layer may be larger than memory. */

import { randomFillSync } from 'node:crypto'
import { closeSync, openSync, writeFileSync, writeSync } from 'node:fs'
import path from 'node:path'
import { numberToBf16, numberToF16 } from '../../lib/block/dtype.js'
import { DTYPE_BITS, STORED_BYTES, STORED_ELEMENTS, type StoredType } from '../../lib/spec/formats.js'
import { ggufBytes, ggufValue } from '../../test/helpers/gguf-writer.js'
import { moderateBlocks } from '../../test/helpers/quantized-matrices.js'
import type { Fill, PublishedLayer, PublishedTensor } from './published-layers.js'

const PATTERN_BYTES = 8 << 20
const ALIGNMENT = 32

const count = (shape: readonly number[]) => shape.reduce((product, length) => product * length, 1)

function bytesOf({ dtype, shape, fill }: PublishedTensor): number {
  const type = dtype as StoredType
  if (fill === 'ggml') return (count(shape) / STORED_ELEMENTS[type]) * STORED_BYTES[type]
  return (count(shape) * DTYPE_BITS[dtype]!) / 8
}

/** Bytes that a tensor is filled with, again and again. */
function patternOf(fill: Fill, dtype: string): Buffer {
  const bytes = randomFillSync(Buffer.alloc(PATTERN_BYTES))
  // Numbers between a hundredth and two.
  const small = (byte: number) => (byte + 1) / 128
  switch (fill) {
    case 'bytes':
      return bytes
    case 'e4m3':
      return bytes.map(code => code & 0xdf) as Buffer
    case 'e8m0':
      return bytes.map(code => 118 + (code & 3)) as Buffer
    case 'f32':
      return Buffer.from(
        Float32Array.from(bytes.subarray(0, PATTERN_BYTES / 4), byte => small(byte) / 64).buffer,
      )
    case 'bf16':
      return Buffer.from(
        Uint16Array.from(bytes.subarray(0, PATTERN_BYTES / 2), byte => numberToBf16(small(byte) / 64)).buffer,
      )
    case 'f16':
      return Buffer.from(
        Uint16Array.from(bytes.subarray(0, PATTERN_BYTES / 2), byte => numberToF16(small(byte) / 64)).buffer,
      )
    default: {
      // Whole blocks whose scales are numbers: ggml's own.
      const blocks = moderateBlocks(dtype)
      const count = Math.floor(PATTERN_BYTES / blocks[0]!.byteLength)
      return Buffer.concat(Array.from({ length: count }, (_, i) => blocks[i % blocks.length]!))
    }
  }
}

function writeTensor(file: number, tensor: PublishedTensor, pattern: Buffer): void {
  for (let left = bytesOf(tensor); left > 0; ) {
    const written = writeSync(file, pattern, 0, Math.min(left, pattern.byteLength))
    left -= written
  }
}

/** @returns what to load, and the bytes of the matrices (not of the router and biases) */
export function writePublished(
  layer: PublishedLayer,
  directory: string,
): { source: string; storedBytes: number } {
  const { tensors, config, metadata } = layer
  const patterns = new Map<string, Buffer>()
  const pattern = ({ fill, dtype }: PublishedTensor) => {
    const key = fill === 'ggml' ? dtype : fill
    if (!patterns.has(key)) patterns.set(key, patternOf(fill, dtype))
    return patterns.get(key)!
  }
  const isMatrix = ({ name, shape }: PublishedTensor) =>
    shape.length > 1 && !/gate\.weight$|router|gate_inp|bias/.test(name)
  const storedBytes = tensors.filter(isMatrix).reduce((sum, tensor) => sum + bytesOf(tensor), 0)
  const source = metadata ? path.join(directory, 'model.gguf') : directory
  const file = openSync(metadata ? source : path.join(directory, 'model.safetensors'), 'w')
  try {
    if (metadata) {
      let offset = 0
      const described = tensors.map(({ name, dtype, shape, ...rest }) => {
        const stated = { offset }
        offset += Math.ceil(bytesOf({ name, dtype, shape, ...rest }) / ALIGNMENT) * ALIGNMENT
        return { name, type: dtype, shape, data: new Uint8Array(0), stated }
      })
      const keys = Object.entries(metadata).map(([key, value]) => [key, ggufValue(value)] as const)
      writeSync(file, ggufBytes({ keys, tensors: described, alignment: ALIGNMENT }))
    } else {
      let offset = 0
      const entries = tensors.map(tensor => {
        const data_offsets = [offset, (offset += bytesOf(tensor))]
        return [tensor.name, { dtype: tensor.dtype, shape: tensor.shape, data_offsets }]
      })
      const json = Buffer.from(JSON.stringify(Object.fromEntries(entries)))
      const header = Buffer.alloc(8 + Math.ceil(json.byteLength / 8) * 8, ' ')
      header.writeBigUInt64LE(BigInt(header.byteLength - 8))
      json.copy(header, 8)
      writeSync(file, header)
      writeFileSync(path.join(directory, 'config.json'), JSON.stringify(config))
    }
    for (const tensor of tensors) {
      writeTensor(file, tensor, pattern(tensor))
      const padding = metadata ? -bytesOf(tensor) & (ALIGNMENT - 1) : 0
      if (padding > 0) writeSync(file, Buffer.alloc(padding))
    }
  } finally {
    closeSync(file)
  }
  return { source, storedBytes }
}
