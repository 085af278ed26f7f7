/** Reads segments of the files of a plan without blocking the event loop. */

import type { FileHandle } from 'node:fs/promises'
import { allocate } from '../../block/allocate.js'
import { MoeError } from '../../block/errors.js'
import { openRegular } from '../regular-file.js'
import type { Segment } from '../segment.js'

/** Largest single read; small enough that a cancelled load stops soon. */
const MAX_READ_BYTES = 4 * 1024 * 1024

/** The files of a plan, opened on first use. Close it in a `finally`. */
export class FileSet {
  private readonly paths: readonly string[]
  private readonly signal: AbortSignal | undefined
  private readonly handles = new Map<number, FileHandle>()

  constructor(paths: readonly string[], signal?: AbortSignal) {
    this.paths = paths
    this.signal = signal
  }

  /**
   * Reads a segment, or `bytes` of it from `start`, into fresh memory.
   * @throws {@link MoeError} ERR_MOE_IO; or `signal.reason`
   */
  async read(segment: Segment, start = 0, bytes = segment.bytes - start): Promise<Uint8Array<ArrayBuffer>> {
    const target = allocate(Uint8Array, bytes)
    const file = this.paths[segment.file]!
    try {
      let handle = this.handles.get(segment.file)
      if (!handle) {
        handle = (await openRegular(file)).handle
        this.handles.set(segment.file, handle)
      }
      let done = 0
      while (done < bytes) {
        this.signal?.throwIfAborted()
        const length = Math.min(bytes - done, MAX_READ_BYTES)
        const { bytesRead } = await handle.read(target, done, length, segment.offset + start + done)
        if (bytesRead === 0) throw new Error('the file ends early')
        done += bytesRead
      }
    } catch (cause) {
      if (cause instanceof MoeError || (this.signal?.aborted && cause === this.signal.reason)) throw cause
      throw new MoeError(
        'ERR_MOE_IO',
        `Cannot read '${segment.name}' from ${file}: ${(cause as Error).message}`,
        {
          cause,
          details: { file, tensor: segment.name, offset: segment.offset, bytes: segment.bytes },
        },
      )
    }
    return target
  }

  async close(): Promise<void> {
    const handles = [...this.handles.values()]
    this.handles.clear()
    await Promise.all(handles.map(handle => handle.close()))
  }
}
