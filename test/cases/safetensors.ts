/** All tensors of a small safetensors file, in memory, for tests. */

import { readFile } from 'node:fs/promises'
import { toFloat32 } from '../../lib/block/dtype.js'
import { readSafetensorsHeader } from '../../lib/checkpoint/safetensors.js'
import { memoryFile } from './memory-file.js'

/** A tensor with its elements as numbers. */
export interface LoadedTensor {
  dtype: string
  shape: readonly number[]
  data: Float32Array | Int32Array | Uint8Array
}

/** Reads F32, F16, BF16 (widened to f32), I32 and U8 tensors by name. */
export async function readSafetensors(file: string): Promise<Map<string, LoadedTensor>> {
  const bytes = await readFile(file)
  const { tensors } = await readSafetensorsHeader(memoryFile(bytes), bytes.length, file)
  return new Map(
    [...tensors.values()].map(({ name, dtype, shape, offset, bytes: size }) => {
      const data = elements(dtype, Uint8Array.from(bytes.subarray(offset, offset + size)))
      return [name, { dtype, shape, data }]
    }),
  )
}

function elements(dtype: string, bytes: Uint8Array<ArrayBuffer>): LoadedTensor['data'] {
  if (dtype === 'U8') return bytes
  if (dtype === 'I32') return new Int32Array(bytes.buffer)
  if (dtype === 'F32') return new Float32Array(bytes.buffer)
  if (dtype === 'F16') return toFloat32(new Uint16Array(bytes.buffer), 'f16')
  if (dtype === 'BF16') return toFloat32(new Uint16Array(bytes.buffer), 'bf16')
  throw new Error(`dtype ${dtype}`)
}
