/** Tensors of `model.safetensors` by name, widened to f32: what the decoder needs besides the MoE blocks. */

import { type FileHandle, open } from 'node:fs/promises'
import path from 'node:path'
import { toFloat32 } from 'sparse-experts'

/** Where weights come from. */
export interface TensorSource {
  /** @throws Error where there is none of that name and shape */
  read(name: string, shape: readonly number[]): Promise<Float32Array>
}

/** A tensor as the header has it: offsets from the header's end. */
interface TensorEntry {
  dtype: string
  shape: readonly number[]
  data_offsets: readonly [begin: number, end: number]
}

/** Before the header, its length. */
const LENGTH_BYTES = 8

async function readExactly(handle: FileHandle, file: string, bytes: number, position: number) {
  const buffer = new Uint8Array(bytes)
  for (let done = 0; done < bytes; ) {
    const { bytesRead } = await handle.read(buffer, done, bytes - done, position + done)
    if (bytesRead === 0) throw new Error(`${file} ends early`)
    done += bytesRead
  }
  return buffer
}

/** One open file. The package checks such files with more care; this reads those that it has published itself. */
export class TensorFile implements TensorSource {
  readonly #handle: FileHandle
  readonly #file: string
  readonly #entries: ReadonlyMap<string, TensorEntry>
  /** Where the header ends. */
  readonly #dataStart: number

  private constructor(file: string, handle: FileHandle, header: Uint8Array) {
    this.#file = file
    this.#handle = handle
    this.#entries = new Map(Object.entries(JSON.parse(new TextDecoder().decode(header))))
    this.#dataStart = LENGTH_BYTES + header.byteLength
  }

  static async open(directory: string): Promise<TensorFile> {
    const file = path.join(directory, 'model.safetensors')
    const handle = await open(file)
    try {
      const prefix = await readExactly(handle, file, LENGTH_BYTES, 0)
      const headerBytes = Number(new DataView(prefix.buffer).getBigUint64(0, true))
      const { size } = await handle.stat()
      if (headerBytes > size - LENGTH_BYTES) throw new Error(`${file} ends early`)
      return new TensorFile(file, handle, await readExactly(handle, file, headerBytes, LENGTH_BYTES))
    } catch (error) {
      await handle.close()
      throw error
    }
  }

  /** Shape of a tensor; undefined where there is none. */
  shapeOf(name: string): readonly number[] | undefined {
    return this.#entries.get(name)?.shape
  }

  async read(name: string, shape: readonly number[]): Promise<Float32Array> {
    const entry = this.#entries.get(name)
    if (!entry) throw new Error(`${this.#file}: there is no tensor '${name}'`)
    if (entry.shape.join() !== shape.join())
      throw new Error(`${this.#file}: '${name}' is [${entry.shape}] and should be [${shape}]`)
    const [begin, end] = entry.data_offsets
    const { buffer } = await readExactly(this.#handle, this.#file, end - begin, this.#dataStart + begin)
    if (entry.dtype === 'F32') return new Float32Array(buffer)
    if (entry.dtype === 'BF16') return toFloat32(new Uint16Array(buffer), 'bf16')
    if (entry.dtype === 'F16') return toFloat32(new Uint16Array(buffer), 'f16')
    throw new Error(`${this.#file}: '${name}' has dtype ${entry.dtype}; F32, F16 and BF16 are read`)
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#handle.close()
  }
}
