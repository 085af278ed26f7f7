/** Tensors of `model.safetensors` by name, widened to f32: what the decoder needs besides the MoE blocks. */

import { type FileHandle, open } from 'node:fs/promises'
import path from 'node:path'
import { toFloat32 } from 'sparse-experts'
import { readFully } from '../../../lib/checkpoint/regular-file.js'
import { readSafetensorsHeader, type SafetensorsHeader } from '../../../lib/checkpoint/safetensors.js'

/** Where weights come from. */
export interface TensorSource {
  /** @throws Error where there is none of that name and shape */
  read(name: string, shape: readonly number[]): Promise<Float32Array>
}

/** One open file. */
export class TensorFile implements TensorSource {
  readonly #handle: FileHandle
  readonly #header: SafetensorsHeader
  readonly #file: string

  private constructor(file: string, handle: FileHandle, header: SafetensorsHeader) {
    this.#file = file
    this.#handle = handle
    this.#header = header
  }

  static async open(directory: string): Promise<TensorFile> {
    const file = path.join(directory, 'model.safetensors')
    const handle = await open(file)
    try {
      const { size } = await handle.stat()
      return new TensorFile(file, handle, await readSafetensorsHeader(handle, size, file))
    } catch (error) {
      await handle.close()
      throw error
    }
  }

  /** Shape of a tensor; undefined where there is none. */
  shapeOf(name: string): readonly number[] | undefined {
    return this.#header.tensors.get(name)?.shape
  }

  async read(name: string, shape: readonly number[]): Promise<Float32Array> {
    const entry = this.#header.tensors.get(name)
    if (!entry) throw new Error(`${this.#file}: there is no tensor '${name}'`)
    if (entry.shape.join() !== shape.join())
      throw new Error(`${this.#file}: '${name}' is [${entry.shape}] and should be [${shape}]`)
    const bytes = new Uint8Array(entry.bytes)
    await readFully(this.#handle, bytes, entry.offset, this.#file)
    if (entry.dtype === 'F32') return new Float32Array(bytes.buffer)
    if (entry.dtype === 'BF16') return toFloat32(new Uint16Array(bytes.buffer), 'bf16')
    if (entry.dtype === 'F16') return toFloat32(new Uint16Array(bytes.buffer), 'f16')
    throw new Error(`${this.#file}: '${name}' has dtype ${entry.dtype}; F32, F16 and BF16 are read`)
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#handle.close()
  }
}
