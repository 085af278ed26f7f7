/**
 * Memory whose size a caller or a file decides. JavaScript throws a RangeError without a code where it has none; no other file of the library
 * makes such arrays, so that it is ERR_MOE_OUT_OF_MEMORY everywhere.
 */

import os from 'node:os'
import { MoeError } from './errors.js'

/** Constructors of typed arrays. */
export interface ArrayKind<A> {
  readonly BYTES_PER_ELEMENT: number
  new (length: number): A
  new (values: ArrayLike<number>): A
}

/**
 * A typed array of zeros, or a copy of `from`.
 * @throws {@link MoeError} ERR_MOE_OUT_OF_MEMORY, with `details` {neededBytes, freeBytes}
 */
export function allocate<A>(kind: ArrayKind<A>, from: number | ArrayLike<number>): A {
  try {
    return typeof from === 'number' ? new kind(from) : new kind(from)
  } catch (cause) {
    const length = typeof from === 'number' ? from : from.length
    throw refused(length * kind.BYTES_PER_ELEMENT, cause)
  }
}

/**
 * A buffer of zeros.
 * @throws {@link MoeError} ERR_MOE_OUT_OF_MEMORY, with `details` {neededBytes, freeBytes}
 */
export function allocateBytes(bytes: number): ArrayBuffer {
  try {
    return new ArrayBuffer(bytes)
  } catch (cause) {
    throw refused(bytes, cause)
  }
}

/** Other errors than those of memory, and sizes that are none, are defects and pass unchanged. */
function refused(neededBytes: number, cause: unknown): unknown {
  if (!(cause instanceof RangeError) || !(neededBytes > 0)) return cause
  const host = process as NodeJS.Process & { availableMemory?(): number }
  const freeBytes = host.availableMemory?.() ?? os.freemem()
  return new MoeError('ERR_MOE_OUT_OF_MEMORY', `The system refused ${neededBytes} bytes of memory`, {
    cause,
    details: { neededBytes, freeBytes },
  })
}
