/** Bytes in memory to whoever reads a file. */

import type { ReadableFile } from '../../lib/checkpoint/regular-file.js'

export function memoryFile(bytes: Uint8Array): ReadableFile {
  return {
    async read(buffer, offset, length, position) {
      const part = bytes.subarray(position, position + length)
      buffer.set(part, offset)
      return { bytesRead: part.length }
    },
  }
}
