/** What a value is by its internal tag, which no prototype, realm or property can change. */

const tagOf = Object.getOwnPropertyDescriptor(
  Object.getPrototypeOf(Uint8Array.prototype),
  Symbol.toStringTag,
)!.get as (this: unknown) => string | undefined

/** 'Float32Array' and so on, of typed arrays of this and of every other realm (vm contexts, test runners); else undefined. */
export function typedArrayKind(value: unknown): string | undefined {
  return tagOf.call(value)
}
