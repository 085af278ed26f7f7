/**
 * Copies of a caller's large arrays. A buffer may be transferred at any moment of an asynchronous call, and be freed or moved by its new
 * owner; Node-API cannot pin it. So what runs on other threads reads and writes copies, and results go back only into memory that is
 * still there. Small arrays are copied by the runtime when it takes the call; large ones here, in pieces, so that the event loop has its
 * turns. The last piece of what a call reads is the runtime's as well: it wakes its device first, and copies while that wakes up.
 */

import { setImmediate as nextTurn } from 'node:timers/promises'
import { allocateBytes } from '../block/allocate.js'
import { dtypeBytes } from '../block/dtype.js'
import { type ArrayCopy, IN_PLACE } from '../devices/contract.js'
import type { PreparedForward } from './forward-arguments.js'
import type { Lease } from './leases.js'

/** Arrays up to this size are copied by the runtime, all of a call at once. */
const SMALL_BYTES = 1024 * 1024

/**
 * Copied in one turn of the event loop, which takes some two tenths of a millisecond; the runtime copies as much at once where hidden states
 * and router input are just small. Smaller pieces would cost as much in turns as in copying: while other threads compute, a turn finds the
 * caches cold.
 */
const TURN_BYTES = 2 * SMALL_BYTES

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

/** The copies of a call. Its methods return null where one turn of the event loop is enough. */
export interface Copies {
  /**
   * Fills the copies of what the call reads, but for what the runtime can copy at once: the request says what. Rejects with
   * ERR_MOE_BUFFER_DETACHED or `signal.reason`.
   */
  takeIn(lease: Lease, signal: AbortSignal | undefined): Promise<void> | null
  /** Copies the output back. Rejects with ERR_MOE_BUFFER_DETACHED. */
  giveBack(lease: Lease): Promise<void> | null
  /** The call has ended: nothing uses its copies any more. */
  release(): void
}

/** Puts copies in the place of a call's large arrays; null where it has none. */
export function copyLarge({ request, borrowed }: PreparedForward, memory: CopyMemory): Copies | null {
  const large = borrowed.filter(({ array }) => array.byteLength > SMALL_BYTES)
  if (large.length === 0) return null
  const buffers: ArrayBuffer[] = []
  const [inputs, outputs]: [PendingCopy[], PendingCopy[]] = [[], []]
  for (const { name, array } of large) {
    const { length } = array
    const buffer = memory.take(length * dtypeBytes(request.dtype))
    const copy =
      request.dtype === 'f32' ? new Float32Array(buffer, 0, length) : new Uint16Array(buffer, 0, length)
    buffers.push(buffer)
    request[name] = copy
    request.inPlace |= IN_PLACE[name]
    if (name === 'output') outputs.push({ from: copy, to: array, first: 0, length })
    else inputs.push({ from: array, to: copy, first: 0, length })
  }
  return {
    takeIn(lease, signal) {
      request.copies = inputs
      return copyInTurns(inputs, TURN_BYTES, lease, signal)
    },
    giveBack: lease => copyInTurns(outputs, 0, lease, undefined),
    release() {
      for (const buffer of buffers) memory.giveBack(buffer)
    },
  }
}

/** Elements before `first` are there already. */
interface PendingCopy extends ArrayCopy {
  first: number
  length: number
}

const bytesLeft = (copies: readonly PendingCopy[]) =>
  copies.reduce((sum, { from, first, length }) => sum + (length - first) * from.BYTES_PER_ELEMENT, 0)

/**
 * Copies a piece in each turn of the event loop, the first at once, until no more than `keepBytes` are left for the next turn; null where
 * that needs no further turn.
 */
function copyInTurns(
  copies: readonly PendingCopy[],
  keepBytes: number,
  lease: Lease,
  signal: AbortSignal | undefined,
): Promise<void> | null {
  if (bytesLeft(copies) <= keepBytes) return null
  copyPiece(copies)
  if (bytesLeft(copies) === 0) return null
  return (async () => {
    for (;;) {
      await nextTurn()
      signal?.throwIfAborted()
      lease.checkStillThere()
      if (bytesLeft(copies) <= keepBytes) return
      copyPiece(copies)
      if (bytesLeft(copies) === 0) return
    }
  })()
}

/** Copies the next {@link TURN_BYTES}, whatever arrays they belong to. */
function copyPiece(copies: readonly PendingCopy[]): void {
  let bytes = TURN_BYTES
  for (const copy of copies) {
    const { from, to, first, length } = copy
    copy.first = Math.min(length, first + bytes / from.BYTES_PER_ELEMENT)
    to.set(from.subarray(first, copy.first), first)
    bytes -= (copy.first - first) * from.BYTES_PER_ELEMENT
  }
}
