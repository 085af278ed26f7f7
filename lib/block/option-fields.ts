/** Reads an options object that came from plain JavaScript: each field is checked for type and range. */

import { checkOptionKeys, invalidArgType, invalidArgValue } from './errors.js'

/** Reads fields of an untyped object, each with its kind and range. */
export class Fields {
  constructor(
    private readonly source: Record<string, unknown>,
    readonly name: string,
  ) {}

  path(key: string): string {
    return `${this.name}.${key}`
  }

  raw(key: string): unknown {
    return this.source[key]
  }

  /** Absent, `undefined` and `null` are the same. */
  has(key: string): boolean {
    return this.source[key] !== undefined && this.source[key] !== null
  }

  number(key: string, expected: string, allowed: (value: number) => boolean, fallback?: number): number {
    const value = this.has(key) ? this.source[key] : fallback
    if (typeof value !== 'number') throw invalidArgType(this.path(key), expected, this.source[key])
    if (!Number.isFinite(value) || !allowed(value)) throw invalidArgValue(this.path(key), expected, value)
    return value
  }

  integer(key: string, min: number, max: number, fallback?: number): number {
    const allowed = (value: number) => Number.isInteger(value) && value >= min && value <= max
    return this.number(key, `an integer from ${min} to ${max}`, allowed, fallback)
  }

  nonNegative(key: string, fallback?: number): number {
    return this.number(key, 'a finite number >= 0', value => value >= 0, fallback)
  }

  positive(key: string, fallback?: number): number {
    return this.number(key, 'a finite number > 0', value => value > 0, fallback)
  }

  boolean(key: string, fallback?: boolean): boolean {
    const value = this.has(key) ? this.source[key] : fallback
    if (typeof value !== 'boolean') throw invalidArgType(this.path(key), 'a boolean', this.source[key])
    return value
  }

  oneOf<T extends string>(key: string, values: readonly T[], fallback?: T): T {
    const value = this.has(key) ? this.source[key] : fallback
    const expected = `one of ${values.map(v => `'${v}'`).join(', ')}`
    if (typeof value !== 'string') throw invalidArgType(this.path(key), expected, this.source[key])
    if (!(values as readonly string[]).includes(value))
      throw invalidArgValue(this.path(key), expected, this.source[key])
    return value as T
  }

  /** A field that a given combination leaves no room for. */
  refuse(key: string, why: string): never {
    throw invalidArgValue(this.path(key), why, this.source[key])
  }

  /** Refuses each field that is present and not its neutral value. */
  refuseUnless(neutral: unknown, why: string, ...keys: string[]): void {
    for (const key of keys) if (this.has(key) && this.source[key] !== neutral) this.refuse(key, why)
  }
}

/** Starts reading `value`, an object; with `allowed`, one that has no other keys. */
export function fieldsOf(value: unknown, name: string, allowed?: readonly string[]): Fields {
  if (typeof value !== 'object' || value === null || Array.isArray(value) || ArrayBuffer.isView(value))
    throw invalidArgType(name, 'an object', value)
  if (allowed) checkOptionKeys(value, allowed, name)
  return new Fields(value as Record<string, unknown>, name)
}
