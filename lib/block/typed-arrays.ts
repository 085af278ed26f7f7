/**
 * What an array is by its internal tag, which no prototype, realm or property can change: `instanceof` takes a forged object for an array,
 * and an array of a vm context or of a test runner's realm for none.
 */

const tagOf = Object.getOwnPropertyDescriptor(
  Object.getPrototypeOf(Uint8Array.prototype),
  Symbol.toStringTag,
)!.get as (this: unknown) => string | undefined

const bufferOf = Object.getOwnPropertyDescriptor(Object.getPrototypeOf(Uint8Array.prototype), 'buffer')!
  .get as (this: unknown) => ArrayBufferLike
const unsharedBytesOf = Object.getOwnPropertyDescriptor(ArrayBuffer.prototype, 'byteLength')!.get as (
  this: unknown,
) => number

/**
 * Whether a typed array lies in shared memory, which nobody can transfer. Memory safety depends on it, so no property is believed.
 * It asks for what other memory has, because an error that is thrown and caught takes longer than the rest of a small call's checks.
 */
export function isInSharedMemory(array: ArrayBufferView): boolean {
  const buffer = bufferOf.call(array)
  try {
    unsharedBytesOf.call(buffer)
    return false
  } catch {
    return true
  }
}

/** 'Float32Array' and so on, for typed arrays of every realm; else undefined. */
export function typedArrayKind(value: unknown): string | undefined {
  return tagOf.call(value)
}

export function isFloat32Array(value: unknown): value is Float32Array {
  return tagOf.call(value) === 'Float32Array'
}

export function isFloat64Array(value: unknown): value is Float64Array {
  return tagOf.call(value) === 'Float64Array'
}

export function isInt32Array(value: unknown): value is Int32Array {
  return tagOf.call(value) === 'Int32Array'
}

export function isUint16Array(value: unknown): value is Uint16Array {
  return tagOf.call(value) === 'Uint16Array'
}

export function isUint8Array(value: unknown): value is Uint8Array {
  return tagOf.call(value) === 'Uint8Array'
}
