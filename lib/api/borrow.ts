/**
 * Copies of a caller's large arrays. A buffer may be transferred at any moment of an asynchronous call, and be freed or moved by its new
 * owner; Node-API cannot pin it. So what runs on other threads reads and writes copies, and results go back only into memory that is
 * still there. Small arrays are copied by the runtime when it takes the call; large ones here, in pieces, so that the event loop has its
 * turns.
 */

import { setImmediate as nextTurn } from 'node:timers/promises'
import { allocateBytes } from '../block/allocate.js'
import { dtypeBytes, type FloatArray } from '../block/dtype.js'
import { IN_PLACE } from '../devices/contract.js'
import type { Borrowed, PreparedForward } from './forward-arguments.js'
import type { Lease } from './leases.js'

/** Copied at a time, about a tenth of a millisecond; an array that is no larger is not worth a turn of the event loop. */
const PIECE_BYTES = 1024 * 1024

/**
 * Memory for copies that its calls have given back. New memory for each call would cost more than the copying: the system clears its pages,
 * and the garbage collector runs for it.
 */
export class CopyMemory {
  /** As many as one call takes. */
  readonly #spare: ArrayBuffer[] = []

  take(bytes: number): ArrayBuffer {
    const fits = this.#spare.findIndex(buffer => buffer.byteLength >= bytes)
    return fits >= 0 ? this.#spare.splice(fits, 1)[0]! : allocateBytes(bytes)
  }

  /** The larger ones stay. */
  giveBack(buffer: ArrayBuffer): void {
    this.#spare.push(buffer)
    this.#spare.sort((a, b) => b.byteLength - a.byteLength)
    this.#spare.length = Math.min(this.#spare.length, Object.keys(IN_PLACE).length)
  }
}

/** The copies of a call. */
export interface Copies {
  /** Fills the copies of what the call reads. @throws {@link MoeError} ERR_MOE_BUFFER_DETACHED; `signal.reason` */
  takeIn(lease: Lease, signal: AbortSignal | undefined): Promise<void>
  /** Copies the output back. @throws {@link MoeError} ERR_MOE_BUFFER_DETACHED */
  giveBack(lease: Lease): Promise<void>
  /** The call has ended: nothing uses its copies any more. */
  release(): void
}

/** Puts copies in the place of a call's large arrays; null where it has none. */
export function copyLarge({ request, borrowed }: PreparedForward, memory: CopyMemory): Copies | null {
  const large = borrowed.filter(({ array }) => array.byteLength > PIECE_BYTES)
  if (large.length === 0) return null
  const copies = large.map(({ name, array }) => {
    const buffer = memory.take(array.length * dtypeBytes(request.dtype))
    const copy =
      request.dtype === 'f32'
        ? new Float32Array(buffer, 0, array.length)
        : new Uint16Array(buffer, 0, array.length)
    request[name] = copy
    request.inPlace |= IN_PLACE[name]
    return { name, array, copy, buffer }
  })
  return {
    async takeIn(lease, signal) {
      for (const { name, array, copy } of copies) {
        if (name !== 'output') await copyInPieces(array, copy, lease, signal)
      }
    },
    async giveBack(lease) {
      for (const { name, array, copy } of copies) {
        if (name === 'output') await copyInPieces(copy, array, lease, undefined)
      }
    },
    release() {
      for (const { buffer } of copies) memory.giveBack(buffer)
    },
  }
}

async function copyInPieces(
  from: Borrowed['array'],
  to: FloatArray,
  lease: Lease,
  signal: AbortSignal | undefined,
): Promise<void> {
  const step = PIECE_BYTES / from.BYTES_PER_ELEMENT
  for (let start = 0; start < from.length || start === 0; start += step) {
    if (start > 0) {
      await nextTurn()
      signal?.throwIfAborted()
      lease.checkStillThere()
    }
    to.set(from.subarray(start, start + step), start)
  }
}
