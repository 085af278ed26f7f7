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

/** @throws {@link MoeError} ERR_MOE_OUT_OF_MEMORY where `neededBytes` are more than the host has left; `what` names them */
export function requireHostMemory(neededBytes: number, what: string): void {
  const { freeBytes } = hostMemory()
  if (neededBytes <= freeBytes) return
  throw new MoeError(
    'ERR_MOE_OUT_OF_MEMORY',
    `${what} need ${neededBytes} bytes of host memory, and ${freeBytes} are free`,
    { details: { neededBytes, freeBytes } },
  )
}
