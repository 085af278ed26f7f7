/** Values of a GGUF file's metadata by key, each of the kind that is asked for; every complaint names the file and the key. */

import { describeValue, MoeError } from '../../block/errors.js'
import type { Metadata } from './metadata.js'

const INTEGERS = new Set(['u8', 'i8', 'u16', 'i16', 'u32', 'i32', 'u64', 'i64'])

/** The number with the fewest digits that f32 rounds to the same: what a config said before a converter rounded it. */
function shortest(value: number): number {
  for (let digits = 1; digits < 9; digits++) {
    const short = Number(value.toPrecision(digits))
    if (Math.fround(short) === value) return short
  }
  return value
}

/** Reads keys below a prefix: `%s.expert_count` where the prefix is the architecture. */
export class MetadataReader {
  readonly file: string
  readonly prefix: string
  private readonly metadata: Metadata

  constructor(metadata: Metadata, file: string, prefix = '') {
    this.metadata = metadata
    this.file = file
    this.prefix = prefix
  }

  /** The same file's keys below another prefix. */
  below(prefix: string): MetadataReader {
    return new MetadataReader(this.metadata, this.file, `${prefix}.`)
  }

  has(key: string): boolean {
    return this.metadata.has(this.prefix + key)
  }

  /** Throws ERR_MOE_INVALID_CONFIG: "file: key …". */
  fail(key: string, problem: string): never {
    const name = this.prefix + key
    throw new MoeError('ERR_MOE_INVALID_CONFIG', `${this.file}: ${name} ${problem}`, {
      details: { file: this.file, field: name },
    })
  }

  private wrong(key: string, expected: string): never {
    const stated = this.metadata.get(this.prefix + key)
    return this.fail(
      key,
      stated === undefined
        ? `is missing; expected ${expected}`
        : `must be ${expected}, is ${describeValue(stated.value)} of type ${stated.type}`,
    )
  }

  /** Throws "is missing; expected …". */
  missing(key: string, expected: string): never {
    return this.wrong(key, expected)
  }

  string(key: string): string | undefined {
    const stated = this.metadata.get(this.prefix + key)
    if (!stated) return undefined
    return typeof stated.value === 'string' ? stated.value : this.wrong(key, 'a string')
  }

  boolean(key: string): boolean | undefined {
    const stated = this.metadata.get(this.prefix + key)
    if (!stated) return undefined
    return typeof stated.value === 'boolean' ? stated.value : this.wrong(key, 'true or false')
  }

  /** An integer of any width, from `minimum` to `maximum`. */
  integer(key: string, minimum: number, maximum: number): number | undefined {
    const stated = this.metadata.get(this.prefix + key)
    if (!stated) return undefined
    const { type, value } = stated
    if (!INTEGERS.has(type) || typeof value !== 'number' || value < minimum || value > maximum)
      return this.wrong(key, `an integer from ${minimum} to ${maximum}`)
    return value
  }

  /** A finite number. */
  number(key: string): number | undefined {
    const stated = this.metadata.get(this.prefix + key)
    if (!stated) return undefined
    return this.finite(key, stated.type, stated.value)
  }

  private finite(key: string, type: string, value: unknown): number {
    if (typeof value !== 'number' || !Number.isFinite(value)) return this.wrong(key, 'a finite number')
    return type === 'f32' ? shortest(value) : value
  }

  /** A number for every layer: an array of `numLayers`, or one number for all. */
  numberOfLayers(key: string, numLayers: number): number[] | undefined {
    const stated = this.metadata.get(this.prefix + key)
    if (!stated) return undefined
    const { type, value } = stated
    if (!Array.isArray(value)) return new Array<number>(numLayers).fill(this.finite(key, type, value))
    if (value.length !== numLayers)
      return this.fail(key, `has ${value.length} entries where the model has ${numLayers} layers`)
    return value.map(entry => this.finite(key, type, entry))
  }
}
