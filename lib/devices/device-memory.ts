/** Blocks of memory on devices that have memory of their own. */

import { checkDeviceOption, chooseDevice, deviceSpellings, isHostDevice } from './device.js'
import type { NativeBuffer } from './device-array.js'
import { fromNativeError } from './native/errors.js'

/** Allocates blocks on one device. */
type Allocate = (bytes: number) => NativeBuffer

const allocators = new Map<string, { device: string; allocate: Allocate }>()

/**
 * The device that a tensor named so lives on: 'cuda' is the first one that works. The built-in host devices ask no addon.
 *
 * @throws TypeError or RangeError for what is no device; {@link MoeError} ERR_MOE_DEVICE_UNAVAILABLE
 */
export function tensorDevice(option: unknown): string {
  if (typeof option === 'string') {
    const known = isHostDevice(option) ? option : allocators.get(option)?.device
    if (known) return known
  }
  const spellings = deviceSpellings().filter(name => name !== 'auto')
  return allocatorOf(checkDeviceOption(option, spellings)).device
}

/** A block with arbitrary contents. */
export function allocateBuffer(device: string, bytes: number): NativeBuffer {
  return memoryCall(() => allocatorOf(device).allocate(bytes))
}

/** A copy of `data` on the device. */
export function uploaded(device: string, data: ArrayBufferView): NativeBuffer {
  const buffer = allocateBuffer(device, data.byteLength)
  try {
    memoryCall(() => buffer.upload(data))
  } catch (error) {
    buffer.dispose()
    throw error
  }
  return buffer
}

/** Fills `into`, which has the block's size. */
export function download<A extends ArrayBufferView>(buffer: NativeBuffer, into: A): A {
  memoryCall(() => buffer.download(into))
  return into
}

/** Looked up once per name: choosing lists devices, and listing asks the system for its memory. */
function allocatorOf(name: string) {
  let found = allocators.get(name)
  if (!found) {
    const { id, addon } = chooseDevice(name)
    found = { device: id, allocate: bytes => addon!.allocate(id, bytes) }
    allocators.set(name, found)
  }
  return found
}

function memoryCall<Result>(body: () => Result): Result {
  try {
    return body()
  } catch (error) {
    throw fromNativeError(error, 'run')
  }
}
