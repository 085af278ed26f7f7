/** Writes GGUF files: the few types of metadata that a model needs, and tensors of any type. */

import { closeSync, openSync, writeSync } from 'node:fs'
import { ggmlType } from './weight-kinds.js'

const VERSION = 3
const ALIGNMENT = 32
/** Numbers of the format's value types. */
const VALUE_TYPES = { uint32: 4, float32: 6, bool: 7, string: 8, array: 9 } as const

export type GgufValue =
  | string
  | { uint32: number }
  | { float32: number }
  | { bool: boolean }
  | readonly string[]

export interface GgufTensor {
  name: string
  /** ggml's name of the type. */
  type: string
  /** Fastest dimension first, as the format has it. */
  dims: readonly number[]
  /** Its parts in order; made one at a time, for all of them may not fit into memory. */
  parts: () => Iterable<ArrayBufferView>
}

/** Little-endian bytes of a header. */
class Bytes {
  readonly #pieces: Buffer[] = []
  uint32(value: number): this {
    const piece = Buffer.alloc(4)
    piece.writeUInt32LE(value)
    this.#pieces.push(piece)
    return this
  }
  uint64(value: number): this {
    const piece = Buffer.alloc(8)
    piece.writeBigUInt64LE(BigInt(value))
    this.#pieces.push(piece)
    return this
  }
  byte(value: number): this {
    this.#pieces.push(Buffer.of(value))
    return this
  }
  float32(value: number): this {
    const piece = Buffer.alloc(4)
    piece.writeFloatLE(value)
    this.#pieces.push(piece)
    return this
  }
  string(value: string): this {
    const text = Buffer.from(value, 'utf8')
    this.uint64(text.length)
    this.#pieces.push(text)
    return this
  }
  value(value: GgufValue): this {
    if (typeof value === 'string') return this.uint32(VALUE_TYPES.string).string(value)
    if ('uint32' in value) return this.uint32(VALUE_TYPES.uint32).uint32(value.uint32)
    if ('bool' in value) return this.uint32(VALUE_TYPES.bool).byte(Number(value.bool))
    if ('float32' in value) return this.uint32(VALUE_TYPES.float32).float32(value.float32)
    this.uint32(VALUE_TYPES.array).uint32(VALUE_TYPES.string).uint64(value.length)
    for (const item of value) this.string(item)
    return this
  }
  /** Padded to the alignment. */
  finish(): Buffer {
    const all = Buffer.concat(this.#pieces)
    return Buffer.concat([all, Buffer.alloc(aligned(all.length) - all.length)])
  }
}

const aligned = (bytes: number) => Math.ceil(bytes / ALIGNMENT) * ALIGNMENT

function bytesOf({ dims, type }: GgufTensor): number {
  const { blockBytes, perBlock } = ggmlType(type)
  return dims.reduce((a, b) => a * b, blockBytes / perBlock)
}

/** @throws where the parts of a tensor are not as long as its shape says */
export function writeGguf(
  file: string,
  metadata: Readonly<Record<string, GgufValue>>,
  tensors: readonly GgufTensor[],
): void {
  const entries = Object.entries(metadata)
  const header = new Bytes()
  header.uint32(Buffer.from('GGUF').readUInt32LE()).uint32(VERSION)
  header.uint64(tensors.length).uint64(entries.length)
  for (const [key, value] of entries) header.string(key).value(value)
  let offset = 0
  for (const tensor of tensors) {
    header.string(tensor.name).uint32(tensor.dims.length)
    for (const dim of tensor.dims) header.uint64(dim)
    header.uint32(ggmlType(tensor.type).number).uint64(offset)
    offset += aligned(bytesOf(tensor))
  }
  const out = openSync(file, 'w')
  try {
    writeSync(out, header.finish())
    for (const tensor of tensors) {
      let written = 0
      for (const part of tensor.parts()) {
        written += writeSync(out, new Uint8Array(part.buffer, part.byteOffset, part.byteLength))
      }
      const bytes = bytesOf(tensor)
      if (written !== bytes) throw new Error(`${tensor.name}: ${written} bytes for ${bytes}`)
      writeSync(out, Buffer.alloc(aligned(bytes) - bytes))
    }
  } finally {
    closeSync(out)
  }
}
