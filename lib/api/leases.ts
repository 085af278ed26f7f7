/** Checks of a caller's arrays, and leases: while a call is in flight, no other call may write what it reads or touch what it writes. */

import { invalidArgType, MoeError } from '../block/errors.js'
import { isOnHost, type Stored } from '../devices/device-array.js'

type TypedArray = Float32Array | Uint16Array | Int32Array | Uint8Array

function isDetached(buffer: ArrayBufferLike): boolean {
  if (buffer.byteLength > 0) return false
  if ('detached' in buffer) return buffer.detached as boolean
  try {
    new Uint8Array(buffer) // Node 20 has no `detached`; a detached buffer refuses a new view.
    return false
  } catch {
    return true
  }
}

/** Refuses memory that is gone or that could move: detached, resizable and growable buffers. */
export function checkBuffer(name: string, array: ArrayBufferView): void {
  const buffer = array.buffer as ArrayBufferLike & { resizable?: boolean; growable?: boolean }
  let isGone: boolean
  try {
    isGone = isDetached(buffer)
  } catch {
    throw invalidArgType(
      name,
      'an array over an ArrayBuffer (its buffer is made to look like another object)',
      array,
    )
  }
  if (isGone) throw new MoeError('ERR_MOE_BUFFER_DETACHED', `The buffer of ${name} is detached`)
  if (buffer.resizable || buffer.growable) {
    throw invalidArgType(
      name,
      'a buffer of fixed length (a resizable buffer may move under a running call)',
      array,
    )
  }
}

interface Range {
  start: number
  end: number
  write: boolean
  name: string
}

/** Ranges in use, by ArrayBuffer or block of device memory. Arrays, because V8 reallocates the table of a Set that empties in every call. */
const inFlight = new WeakMap<object, Range[]>()

/** One use of memory by a call. */
export interface Use {
  name: string
  array: Stored<TypedArray>
  write: boolean
}

/** Memory that a call holds. */
export interface Lease {
  release(): void
  /**
   * A buffer that was transferred while the call ran holds nothing that can be trusted, and nothing was written where the caller looks.
   *
   * @throws {@link MoeError} ERR_MOE_BUFFER_DETACHED
   */
  checkStillThere(): void
}

/**
 * Registers what a call reads and writes.
 *
 * @throws {@link MoeError} ERR_MOE_BUFFER_BUSY when a written range overlaps any other, of this call or of one in flight
 */
export function leaseBuffers(uses: readonly Use[]): Lease {
  const held: [Range[], Range][] = []
  const release = () => {
    for (const [ranges, range] of held) {
      const last = ranges.pop()!
      if (last !== range) ranges[ranges.indexOf(range)] = last
    }
    held.length = 0
  }
  for (const { name, array, write } of uses) {
    if (array.byteLength === 0) continue
    const [buffer, start] = isOnHost(array) ? [array.buffer, array.byteOffset] : [array, 0]
    const end = start + array.byteLength
    let ranges = inFlight.get(buffer)
    if (!ranges) inFlight.set(buffer, (ranges = []))
    for (const other of ranges) {
      if ((write || other.write) && start < other.end && other.start < end) {
        const own = held.some(([, range]) => range === other)
        release()
        throw new MoeError(
          'ERR_MOE_BUFFER_BUSY',
          own
            ? `${name} overlaps ${other.name} of the same call`
            : `${name} is in use as ${other.name} by a call that has not settled`,
        )
      }
    }
    const range = { start, end, write, name }
    ranges.push(range)
    held.push([ranges, range])
  }
  const lengths = uses.map(use => use.array.byteLength)
  const checkStillThere = () => {
    // A block of device memory cannot be transferred, and lives as long as the call does.
    const gone = uses.find(({ array }, i) => isOnHost(array) && array.byteLength !== lengths[i])
    if (gone)
      throw new MoeError(
        'ERR_MOE_BUFFER_DETACHED',
        `The buffer of ${gone.name} was detached while the call used it`,
      )
  }
  return { release, checkStillThere }
}
