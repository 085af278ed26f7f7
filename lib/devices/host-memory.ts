/** What the host has left for a layer. */

import os from 'node:os'
import { MoeError } from '../block/errors.js'
import { devices, HOST_DEVICE } from './device.js'

/** What the host has for this process, within the limits of the control groups that it runs in. */
export interface HostMemory {
  totalBytes: number
  freeBytes: number
}

/** As the addon reads it; without one as Node does, which on some versions knows the innermost group only. */
export function hostMemory(): HostMemory {
  const cpu = devices().find(({ id }) => id === HOST_DEVICE)
  if (cpu && cpu.totalBytes > 0) return { totalBytes: cpu.totalBytes, freeBytes: cpu.freeBytes }
  const host = process as NodeJS.Process & { constrainedMemory?(): number; availableMemory?(): number }
  try {
    const limit = host.constrainedMemory?.() ?? 0
    const totalBytes = os.totalmem()
    // Without a limit the kernel reports a figure near 2^63.
    return {
      totalBytes: limit > 0 && limit < totalBytes ? limit : totalBytes,
      freeBytes: host.availableMemory?.() ?? os.freemem(),
    }
  } catch {
    // A runtime that may not tell, as Deno without --allow-sys: an allocation that is too large says so itself.
    return { totalBytes: 0, freeBytes: Number.POSITIVE_INFINITY }
  }
}

/**
 * Bytes that the loads of this thread will still take as typed arrays. The system counts memory as free until it is touched. What the addon
 * will take for layers it counts itself, for all threads.
 */
let reservedBytes = 0

/** Memory that a load takes bit by bit. Until it is released no other load is promised the rest of it. */
export interface HostReservation {
  /** @param share of it that is still to be taken, 0 to 1 */
  keep(share: number): void
  /** To be called in a `finally`. */
  release(): void
}

/** @throws {@link MoeError} ERR_MOE_OUT_OF_MEMORY where the host has less than `neededBytes` left that is not reserved; `what` names them */
export function reserveHostMemory(neededBytes: number, what: string): HostReservation {
  const freeBytes = Math.max(0, hostMemory().freeBytes - reservedBytes)
  if (neededBytes > freeBytes) {
    throw new MoeError(
      'ERR_MOE_OUT_OF_MEMORY',
      `${what} need ${neededBytes} bytes of host memory, and ${freeBytes} are free`,
      { details: { neededBytes, freeBytes } },
    )
  }
  let held = 0
  const hold = (bytes: number) => {
    reservedBytes += bytes - held
    held = bytes
  }
  hold(neededBytes)
  return { keep: share => hold(Math.round(neededBytes * share)), release: () => hold(0) }
}
