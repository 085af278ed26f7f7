/** Arrays of a device: typed arrays where it shares the host's memory, blocks of its own memory elsewhere. */

import { MoeError } from '../block/errors.js'

/** A block of a device's memory. Methods called on anything but a NativeBuffer throw (type tag). */
export interface NativeBuffer {
  /** 0 once disposed. */
  readonly byteLength: number
  /** 'cpu', 'cuda:0' … */
  readonly device: string
  /** Copies a whole typed array of the same size in. */
  upload(data: ArrayBufferView): void
  /** Copies the whole block out, into a typed array of the same size. */
  download(into: ArrayBufferView): void
  /** Idempotent. Calls that use the block keep it until they end. */
  dispose(): void
}

/** A typed array on devices that share the host's memory ('cpu', 'reference'), a block of the device's memory on the others. */
export type Stored<A extends ArrayBufferView = ArrayBufferView> = A | NativeBuffer

export function isOnHost<A extends ArrayBufferView>(stored: Stored<A>): stored is A {
  return ArrayBuffer.isView(stored)
}

/** What only a host device is ever given. */
export function onHost<A extends ArrayBufferView>(stored: Stored<A>): A {
  if (isOnHost(stored)) return stored
  throw new MoeError('ERR_MOE_INTERNAL', 'Device memory where an array of the host belongs')
}
