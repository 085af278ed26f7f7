/** Reads fields of a config.json, each checked; every complaint names the file and the field. */

import { describeValue, MoeError } from '../../block/errors.js'

type Section = Readonly<Record<string, unknown>>

/** Longest string of a config that is read, in UTF-16 units: a letter for each of the most layers. */
const MAX_STRING = 4096

/** Lists of parsed configs whose elements are known to be strings or integers, and their sets: rows ask for them layer by layer. */
const checkedLists = new WeakMap<readonly unknown[], 'string' | 'integer'>()
const sets = new WeakMap<readonly number[], ReadonlySet<number>>()
const flagLists = new WeakMap<readonly unknown[], readonly boolean[]>()

/** One section of a config.json (the root, or a nested `text_config`). A field may be a dotted path, or a list of spellings. */
export class ConfigReader {
  readonly section: Section
  readonly file: string
  private readonly path: string
  private readonly asked = new Set<string>()

  constructor(section: Section, file: string, path = '') {
    this.section = section
    this.file = file
    this.path = path
  }

  /** Whether anything has asked for a field of this section. */
  wasRead(field: string): boolean {
    return this.asked.has(field)
  }

  /** The first spelling that is present and not null. */
  raw(field: string | readonly string[]): unknown {
    for (const spelling of typeof field === 'string' ? [field] : field) {
      this.asked.add(spelling)
      let value: unknown = this.section
      for (const key of spelling.split('.')) {
        value = isObject(value) && Object.hasOwn(value, key) ? value[key] : undefined
      }
      if (value !== undefined && value !== null) return value
    }
    return undefined
  }

  /** True where a field is there and null, which some models distinguish from absent. */
  isNull(field: string): boolean {
    const keys = field.split('.')
    const last = keys.pop()!
    const parent = keys.length === 0 ? this.section : this.raw(keys.join('.'))
    return isObject(parent) && Object.hasOwn(parent, last) && parent[last] === null
  }

  has(field: string | readonly string[]): boolean {
    return this.raw(field) !== undefined
  }

  /** Throws ERR_MOE_INVALID_CONFIG: "file: field …". */
  fail(field: string | readonly string[], problem: string): never {
    const name = this.path + (typeof field === 'string' ? field : field[0])
    throw new MoeError('ERR_MOE_INVALID_CONFIG', `${this.file}: ${name} ${problem}`, {
      details: { file: this.file, field: name, value: this.raw(field) },
    })
  }

  private value<T>(field: string | readonly string[], fallback: T | undefined, expected: string): unknown {
    const value = this.raw(field)
    if (value !== undefined) return value
    if (fallback === undefined) return this.fail(field, `is missing; expected ${expected}`)
    return fallback
  }

  number(field: string | readonly string[], fallback?: number): number {
    const value = this.value(field, fallback, 'a number')
    if (typeof value !== 'number' || !Number.isFinite(value)) {
      return this.fail(field, `must be a finite number, is ${describeValue(value)}`)
    }
    return value
  }

  integer(field: string | readonly string[], minimum: number, fallback?: number): number {
    const value = this.value(field, fallback, `an integer >= ${minimum}`)
    return this.checkInteger(field, value, minimum)
  }

  /** An integer for all layers, or a list with one per layer. */
  integerOfLayer(
    field: string | readonly string[],
    layer: number,
    minimum: number,
    fallback?: number,
  ): number {
    const value = this.value(field, fallback, `an integer >= ${minimum}`)
    return this.checkInteger(field, Array.isArray(value) ? value[layer] : value, minimum)
  }

  private checkInteger(field: string | readonly string[], value: unknown, minimum: number): number {
    if (typeof value !== 'number' || !Number.isSafeInteger(value) || value < minimum || value > 0x7fffffff) {
      return this.fail(field, `must be an integer >= ${minimum}, is ${describeValue(value)}`)
    }
    return value
  }

  boolean(field: string | readonly string[], fallback?: boolean): boolean {
    const value = this.value(field, fallback, 'true or false')
    if (typeof value !== 'boolean')
      return this.fail(field, `must be true or false, is ${describeValue(value)}`)
    return value
  }

  string(field: string | readonly string[], fallback?: string): string {
    const value = this.value(field, fallback, 'a string')
    if (typeof value !== 'string') return this.fail(field, `must be a string, is ${describeValue(value)}`)
    if (value.length > MAX_STRING)
      this.fail(field, `has ${value.length} characters, above the cap of ${MAX_STRING}`)
    return value
  }

  /** A list of strings or integers; undefined where the field is absent. A list is looked through once, however often it is asked for. */
  list<T extends 'string' | 'integer'>(
    field: string,
    of: T,
  ): readonly (T extends 'string' ? string : number)[] | undefined {
    const value = this.raw(field)
    if (value === undefined) return undefined
    if (!Array.isArray(value)) return this.fail(field, `must be a list of ${of}s, is ${describeValue(value)}`)
    if (checkedLists.get(value) === of) return value
    const fits = (item: unknown) => (of === 'string' ? typeof item === 'string' : Number.isSafeInteger(item))
    const wrong = value.findIndex(item => !fits(item))
    if (wrong >= 0) {
      const what = describeValue(value[wrong])
      return this.fail(
        field,
        `must be a list of ${of}s, is ${describeValue(value)}, of which ${wrong} is ${what}`,
      )
    }
    checkedLists.set(value, of)
    return value
  }

  /** A list of flags, as true and false or as 1 and 0; undefined where the field is absent or is no list. */
  flags(field: string): readonly boolean[] | undefined {
    const value = this.raw(field)
    if (!Array.isArray(value)) return undefined
    let list = flagLists.get(value)
    if (!list) {
      list = value.map((item: unknown, index) => {
        if (typeof item === 'boolean') return item
        if (item === 0 || item === 1) return item === 1
        return this.fail(field, `must be a list of 1 and 0, of which ${index} is ${describeValue(item)}`)
      })
      flagLists.set(value, list)
    }
    return list
  }

  /** A list of integers as a set, made once. */
  integerSet(field: string): ReadonlySet<number> | undefined {
    const list = this.list(field, 'integer')
    if (!list) return undefined
    let set = sets.get(list)
    if (!set) {
      set = new Set(list)
      sets.set(list, set)
    }
    return set
  }

  /** Every nested object by its key, which may hold dots: names of modules and patterns of them do. */
  sections(): [string, ConfigReader][] {
    return Object.entries(this.section).flatMap(([key, value]): [string, ConfigReader][] =>
      isObject(value) ? [[key, new ConfigReader(value, this.file, `${this.path}${key}.`)]] : [],
    )
  }

  /** Object `index` of a list of objects, or undefined where the field is absent. */
  item(field: string, index: number): ConfigReader | undefined {
    const value = this.raw(field)
    if (value === undefined) return undefined
    const item: unknown = Array.isArray(value) ? value[index] : undefined
    if (!isObject(item)) return this.fail(field, `must be a list of objects, and has none for layer ${index}`)
    return new ConfigReader(item, this.file, `${this.path}${field}[${index}].`)
  }

  /** A nested object, or undefined. */
  nested(field: string): ConfigReader | undefined {
    const value = this.raw(field)
    return isObject(value) ? new ConfigReader(value, this.file, `${this.path}${field}.`) : undefined
  }
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}
