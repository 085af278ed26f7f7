/** Reads of whole experts from files without anything done to them: what a disk gives, past the page cache where it can. */

import { closeSync, constants, openSync, read, readSync, statSync } from 'node:fs'

const PAGE = 4096

/** Bytes of a file. */
export interface ByteRange {
  file: string
  offset: number
  bytes: number
}

/** Files that are open for reads of whole pages. */
export class RawFiles {
  readonly #descriptors = new Map<string, number>()
  readonly isDirect: boolean
  readonly #buffers: Uint8Array[]

  /** @param readers reads in flight */
  constructor(files: readonly string[], readers: number, largestBytes: number) {
    const direct = constants.O_DIRECT ?? 0
    this.isDirect = direct !== 0 && files.every(file => canRead(file, direct))
    for (const file of files)
      this.#descriptors.set(file, openSync(file, constants.O_RDONLY | (this.isDirect ? direct : 0)))
    this.#buffers = Array.from({ length: readers }, () => alignedBuffer(largestBytes + 2 * PAGE))
  }

  /** Reads all of them, `readers` at a time; milliseconds. */
  async times(ranges: readonly ByteRange[]): Promise<number> {
    const began = performance.now()
    let next = 0
    await Promise.all(
      this.#buffers.map(async buffer => {
        for (let range = ranges[next++]; range; range = ranges[next++]) await this.#read(range, buffer)
      }),
    )
    return performance.now() - began
  }

  #read({ file, offset, bytes }: ByteRange, buffer: Uint8Array): Promise<void> {
    const first = Math.floor(offset / PAGE) * PAGE
    const length = Math.ceil((offset + bytes) / PAGE) * PAGE - first
    return new Promise((resolve, reject) => {
      read(this.#descriptors.get(file)!, buffer, 0, length, first, (error, got) => {
        if (error) reject(error)
        else if (got < offset + bytes - first) reject(new Error(`${file} ends early`))
        else resolve()
      })
    })
  }

  close(): void {
    for (const descriptor of this.#descriptors.values()) closeSync(descriptor)
  }
}

/** Whether reads with these flags work, as they do on most file systems of disks. */
function canRead(file: string, flags: number): boolean {
  if (statSync(file).size < PAGE) return false
  try {
    const descriptor = openSync(file, constants.O_RDONLY | flags)
    try {
      readSync(descriptor, alignedBuffer(PAGE), 0, PAGE, 0)
      return true
    } finally {
      closeSync(descriptor)
    }
  } catch {
    return false
  }
}

/**
 * A view that begins at a page: JavaScript knows no addresses, so every place is tried by a read that the system refuses unless it is
 * aligned. The executable of Node is a file that is there.
 */
function alignedBuffer(bytes: number): Uint8Array {
  const buffer = new Uint8Array(bytes + PAGE)
  const descriptor = openSync(process.execPath, constants.O_RDONLY | (constants.O_DIRECT ?? 0))
  try {
    for (let at = 0; at < PAGE; at += 16) {
      try {
        readSync(descriptor, buffer, at, PAGE, 0)
        return buffer.subarray(at)
      } catch {}
    }
    return buffer
  } finally {
    closeSync(descriptor)
  }
}
