/** Safetensors bytes made by hand, malformed ones included, and a file in memory. */

import type { ReadableFile } from '../../lib/checkpoint/regular-file.js'

/** A file whose bytes are in memory; reads give at most `chunk` bytes. */
export function memoryFile(bytes: Uint8Array, chunk = Number.POSITIVE_INFINITY): ReadableFile {
  return {
    async read(buffer, offset, length, position) {
      const part = bytes.subarray(position, position + Math.min(length, chunk))
      buffer.set(part, offset)
      return { bytesRead: part.byteLength }
    },
  }
}

/** A file of header text and data; `declared` overrides the length that it states. */
export function safetensorsBytes(
  header: string | Uint8Array,
  dataBytes: number,
  declared?: bigint,
): Uint8Array {
  const text = typeof header === 'string' ? Buffer.from(header, 'utf8') : header
  const bytes = new Uint8Array(8 + text.byteLength + dataBytes)
  new DataView(bytes.buffer).setBigUint64(0, declared ?? BigInt(text.byteLength), true)
  bytes.set(text, 8)
  for (let i = 8 + text.byteLength; i < bytes.byteLength; i++) bytes[i] = i
  return bytes
}
