/** What the host has left for a layer. */

import os from 'node:os'
import { MoeError } from '../block/errors.js'

/** Bytes that this process may still take, as the system and the limits on the process say. */
export function availableHostBytes(): number {
  const host = process as NodeJS.Process & { availableMemory?(): number }
  return host.availableMemory?.() ?? os.freemem()
}

/** @throws {@link MoeError} ERR_MOE_OUT_OF_MEMORY where `neededBytes` are more than the host has left; `what` names them */
export function requireHostMemory(neededBytes: number, what: string): void {
  const freeBytes = availableHostBytes()
  if (neededBytes <= freeBytes) return
  throw new MoeError(
    'ERR_MOE_OUT_OF_MEMORY',
    `${what} need ${neededBytes} bytes of host memory, and ${freeBytes} are free`,
    { details: { neededBytes, freeBytes } },
  )
}
