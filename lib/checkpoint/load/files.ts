/** Reads segments of the files of a plan without blocking the event loop. */

import { allocate } from '../../block/allocate.js'
import { MoeError } from '../../block/errors.js'
import { OpenFiles } from '../open-files.js'
import type { LayerPlan } from '../plan/layer-plan.js'
import type { Segment } from '../segment.js'

/** Largest single read; small enough that a cancelled load stops soon. */
const MAX_READ_BYTES = 4 * 1024 * 1024

/** The files of a plan: those of its checkpoint where that is open, else opened on first use. Close it in a `finally`. */
export class FileSet {
  private readonly paths: readonly string[]
  private readonly signal: AbortSignal | undefined
  private readonly files: OpenFiles
  private readonly isOwner: boolean

  constructor({ files, openFiles }: Pick<LayerPlan, 'files' | 'openFiles'>, signal?: AbortSignal) {
    this.paths = files
    this.signal = signal
    this.files = openFiles ?? new OpenFiles()
    this.isOwner = !openFiles
  }

  /**
   * Reads a segment, or `bytes` of it from `start`, into fresh memory.
   * @throws {@link MoeError} ERR_MOE_IO; or `signal.reason`
   */
  async read(segment: Segment, start = 0, bytes = segment.bytes - start): Promise<Uint8Array<ArrayBuffer>> {
    const target = allocate(Uint8Array, bytes)
    const file = this.paths[segment.file]!
    try {
      const { handle } = await this.files.open(file)
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
    if (this.isOwner) await this.files.close()
  }
}
