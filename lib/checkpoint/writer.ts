/** Writes safetensors files and the index of a sharded checkpoint; for tests, demos and conversions of small models. */

import { open, writeFile } from 'node:fs/promises'
import path from 'node:path'
import { invalidArgShape, invalidArgValue } from '../block/errors.js'
import { DTYPE_BITS } from '../spec/formats.js'

/** A tensor to write. */
export interface WritableTensor {
  name: string
  /** dtype string of the format: 'F32', 'BF16', 'F8_E4M3' … */
  dtype: string
  shape: readonly number[]
  /** Its little-endian bytes, dense and row-major. */
  data: ArrayBufferView
}

/**
 * Writes one file, tensors in the given order (wider elements first keeps them aligned).
 * @throws RangeError where a dtype is unknown, a name comes twice or the data does not fit the shape
 */
export async function writeSafetensors(
  file: string,
  tensors: readonly WritableTensor[],
  metadata?: Readonly<Record<string, string>>,
): Promise<void> {
  const entries: [string, unknown][] = metadata ? [['__metadata__', metadata]] : []
  const names = new Set<string>(['__metadata__'])
  let position = 0
  for (const { name, dtype, shape, data } of tensors) {
    const bits = DTYPE_BITS[dtype]
    if (bits === undefined) throw invalidArgValue('dtype', Object.keys(DTYPE_BITS).join(', '), dtype)
    if (names.has(name)) throw invalidArgValue('name', 'a name that is not taken', name)
    names.add(name)
    const bytes = (shape.reduce((product, length) => product * length, 1) * bits) / 8
    if (data.byteLength !== bytes) throw invalidArgShape(name, `${bytes} bytes`, `${data.byteLength}`)
    entries.push([name, { dtype, shape, data_offsets: [position, position + bytes] }])
    position += bytes
  }
  // Written by hand because an object cannot hold a key '__proto__'.
  const json = `{${entries.map(([key, value]) => `${JSON.stringify(key)}:${JSON.stringify(value)}`).join(',')}}`
  const text = Buffer.from(json, 'utf8')
  // Data begins at a multiple of eight; the padding is spaces.
  const header = Buffer.alloc(8 + Math.ceil(text.byteLength / 8) * 8, ' ')
  header.writeBigUInt64LE(BigInt(header.byteLength - 8), 0)
  text.copy(header, 8)

  const handle = await open(file, 'w')
  try {
    await writeAll(handle, header)
    for (const { data } of tensors) {
      await writeAll(handle, new Uint8Array(data.buffer, data.byteOffset, data.byteLength))
    }
  } finally {
    await handle.close()
  }
}

async function writeAll(handle: Awaited<ReturnType<typeof open>>, bytes: Uint8Array): Promise<void> {
  let done = 0
  while (done < bytes.byteLength) {
    const { bytesWritten } = await handle.write(bytes, done, bytes.byteLength - done, null)
    done += bytesWritten
  }
}

/** Writes `shards` (one array of tensors per file) and `model.safetensors.index.json` into `directory`. */
export async function writeShardedSafetensors(
  directory: string,
  shards: readonly (readonly WritableTensor[])[],
): Promise<void> {
  const weightMap: [string, string][] = []
  let totalSize = 0
  for (const [index, tensors] of shards.entries()) {
    const number = (value: number) => String(value).padStart(5, '0')
    const file = `model-${number(index + 1)}-of-${number(shards.length)}.safetensors`
    await writeSafetensors(path.join(directory, file), tensors)
    for (const tensor of tensors) {
      weightMap.push([tensor.name, file])
      totalSize += tensor.data.byteLength
    }
  }
  const members = weightMap
    .map(([name, file]) => `    ${JSON.stringify(name)}: ${JSON.stringify(file)}`)
    .join(',\n')
  const json = `{\n  "metadata": { "total_size": ${totalSize} },\n  "weight_map": {\n${members}\n  }\n}\n`
  await writeFile(path.join(directory, 'model.safetensors.index.json'), json)
}
