/** Every error that the package throws, and the one table of its codes. */

import { typedArrayKind } from './typed-arrays.js'

/** Code → when it is raised. `docs/errors.md` is checked against this table by a test. */
export const ERROR_CODES = {
  ERR_MOE_INVALID_ARG_TYPE: 'An argument is of the wrong kind (thrown as a TypeError).',
  ERR_MOE_INVALID_ARG_VALUE: 'An argument has a value that is not allowed (thrown as a RangeError).',
  ERR_MOE_INVALID_ARG_SHAPE: 'An array or tensor has the wrong length or shape (thrown as a RangeError).',
  ERR_MOE_UNKNOWN_OPTION:
    'An options object has a key, or a command line an option, that does not exist (thrown as a TypeError).',
  ERR_MOE_UNSUPPORTED_OPTION: 'An option that exists is not carried out by this version.',
  ERR_MOE_MISSING_INPUT:
    'The layer needs another input for this call: tokenIds, or routerInput (thrown as a TypeError).',
  ERR_MOE_INVALID_CONFIG: 'A config is inconsistent, or config.json lacks a field that its family needs.',
  ERR_MOE_UNSUPPORTED_FAMILY: 'A config.json or GGUF file names a model type that no family row describes.',
  ERR_MOE_UNSUPPORTED_FORMAT: 'The checkpoint stores its weights in a format that is not supported.',
  ERR_MOE_NOT_SPARSE: 'The asked decoder layer has no experts.',
  ERR_MOE_INVALID_CHECKPOINT:
    'A safetensors or GGUF file or an index is malformed, or a tensor holds values that no model has.',
  ERR_MOE_MISSING_TENSOR: 'The checkpoint lacks a tensor that the layer needs.',
  ERR_MOE_TENSOR_MISMATCH: 'A tensor has another shape or dtype than config.json implies.',
  ERR_MOE_IO: 'A file of a checkpoint or a trace could not be read or written.',
  ERR_MOE_NATIVE_LOAD: 'The native addon could not be loaded.',
  ERR_MOE_NATIVE_VERSION: 'The native addon belongs to another version of the package.',
  ERR_MOE_DEVICE_UNAVAILABLE: 'The device asked for by name cannot serve; the message says why.',
  ERR_MOE_DEVICE_LOST: 'The device failed for good; every later call on it fails the same way.',
  ERR_MOE_OUT_OF_MEMORY:
    'Not enough memory on the host or the device; details has neededBytes and freeBytes.',
  ERR_MOE_CACHE_TOO_SMALL:
    'The memory for experts does not hold those of one token; details has what it needs.',
  ERR_MOE_TRACE_INVALID: 'A recorded routing is damaged, incomplete, or no trace.',
  ERR_MOE_DISPOSED: 'The layer or tensor has been disposed.',
  ERR_MOE_QUEUE_FULL: 'The layer has as many rows waiting as its queue may hold.',
  ERR_MOE_BUFFER_BUSY: 'A buffer is in use by a call that has not settled, or overlaps one that is written.',
  ERR_MOE_BUFFER_DETACHED: 'A buffer was detached or resized before or while a call used it.',
  ERR_MOE_UNKNOWN_COMMAND: 'The command line names a command that does not exist.',
  ERR_MOE_MISSING_ARGUMENT: 'The command line lacks its command, an argument, or the value of an option.',
  ERR_MOE_UNEXPECTED_ARGUMENT:
    'The command line has an argument too many, a value of an option that takes none, or options that exclude each other.',
  ERR_MOE_BUILD_FAILED: 'The native addon could not be compiled (npx sparse-experts build).',
  ERR_MOE_INTERNAL: 'A defect of the package; please report it.',
} as const

/** A stable error code. */
export type MoeErrorCode = keyof typeof ERROR_CODES

/** What an error carries besides its message: figures and names that a program may want. */
export type MoeErrorDetails = Readonly<Record<string, unknown>>

/** An operational error: something about a checkpoint, a device, a resource or the state of a layer. */
export class MoeError extends Error {
  override readonly name: string = 'MoeError'
  readonly code: MoeErrorCode
  readonly details?: MoeErrorDetails

  constructor(
    code: MoeErrorCode,
    message: string,
    options: { cause?: unknown; details?: MoeErrorDetails } = {},
  ) {
    super(message, 'cause' in options ? { cause: options.cause } : undefined)
    this.code = code
    if (options.details) this.details = Object.freeze({ ...options.details })
  }
}

/** A wrong argument: a `TypeError` or `RangeError` with a stable code. */
export interface MoeArgumentError extends Error {
  readonly code: MoeErrorCode
}

function withCode<E extends Error>(error: E, code: MoeErrorCode): E & MoeArgumentError {
  Object.defineProperty(error, 'code', { value: code, enumerable: true })
  return error as E & MoeArgumentError
}

/**
 * Renders a value for "received …": short, never the contents of a large array. Its `toString`, `toJSON` and `constructor` are whatever a
 * caller or a file made them: none is called, and what throws when it is looked at (a Proxy) is an object of which nothing is known.
 */
export function describeValue(value: unknown): string {
  try {
    return describe(value)
  } catch {
    return 'an object that cannot be looked at'
  }
}

function describe(value: unknown): string {
  if (value === null) return 'null'
  if (value === undefined) return 'undefined'
  if (typeof value === 'string') return value.length > 40 ? `'${value.slice(0, 40)}…'` : `'${value}'`
  if (typeof value === 'bigint')
    return value > -MAX_SHOWN && value < MAX_SHOWN ? `${value}n` : 'a long bigint'
  if (typeof value === 'number' || typeof value === 'boolean') return String(value)
  if (typeof value === 'symbol') return 'a symbol'
  if (typeof value === 'function') return `function ${ownName(value)}`.trimEnd()
  const kind = typedArrayKind(value)
  if (kind) return `${kind}(${(value as Float32Array).length})`
  if (Array.isArray(value)) return `an array of ${value.length}`
  return `an instance of ${className(value)}`
}

const MAX_SHOWN = 10n ** 40n

/** The `name` of a function where that is a plain string. */
function ownName(value: object): string {
  const name: unknown = Object.getOwnPropertyDescriptor(value, 'name')?.value
  return typeof name === 'string' ? name.slice(0, 40) : ''
}

/** The name of the class of an object, by its chain of prototypes: properties with getters are not asked. */
function className(value: object): string {
  for (let object: object | null = value; object !== null; object = Object.getPrototypeOf(object)) {
    const made: unknown = Object.getOwnPropertyDescriptor(object, 'constructor')?.value
    if (typeof made === 'function') return ownName(made) || 'Object'
  }
  return 'Object'
}

/** "Expected <what> for <name>, received <value>" as a `TypeError` with `ERR_MOE_INVALID_ARG_TYPE`. */
export function invalidArgType(name: string, expected: string, value: unknown): TypeError & MoeArgumentError {
  return withCode(
    new TypeError(`Expected ${expected} for ${name}, received ${describeValue(value)}`),
    'ERR_MOE_INVALID_ARG_TYPE',
  )
}

/** As {@link invalidArgType}, a `RangeError` with `ERR_MOE_INVALID_ARG_VALUE`. */
export function invalidArgValue(
  name: string,
  expected: string,
  value: unknown,
): RangeError & MoeArgumentError {
  return withCode(
    new RangeError(`Expected ${expected} for ${name}, received ${describeValue(value)}`),
    'ERR_MOE_INVALID_ARG_VALUE',
  )
}

/** As {@link invalidArgType}, a `RangeError` with `ERR_MOE_INVALID_ARG_SHAPE`. */
export function invalidArgShape(
  name: string,
  expected: string,
  received: string,
): RangeError & MoeArgumentError {
  return withCode(
    new RangeError(`Expected ${expected} for ${name}, received ${received}`),
    'ERR_MOE_INVALID_ARG_SHAPE',
  )
}

/** A `TypeError` with `ERR_MOE_MISSING_INPUT`. */
export function missingInput(name: string, why: string): TypeError & MoeArgumentError {
  return withCode(new TypeError(`Expected ${name}: ${why}`), 'ERR_MOE_MISSING_INPUT')
}

/** Rejects option keys that do not exist, with the nearest name that does. */
export function checkOptionKeys(options: object, allowed: readonly string[], name = 'options'): void {
  if (typeof options !== 'object' || options === null) throw invalidArgType(name, 'an object', options)
  for (const key of Object.keys(options)) {
    if (allowed.includes(key)) continue
    const near = allowed.find(candidate => editDistance(candidate.toLowerCase(), key.toLowerCase()) <= 2)
    throw withCode(
      new TypeError(
        `Unknown key '${key}' in ${name}${near ? `; did you mean '${near}'?` : `; known keys: ${allowed.join(', ')}`}`,
      ),
      'ERR_MOE_UNKNOWN_OPTION',
    )
  }
}

/** Levenshtein distance, for "did you mean". */
export function editDistance(a: string, b: string): number {
  let previous = Array.from({ length: b.length + 1 }, (_, j) => j)
  for (let i = 1; i <= a.length; i++) {
    const row = [i]
    for (let j = 1; j <= b.length; j++) {
      const substituted = previous[j - 1]! + (a[i - 1] === b[j - 1] ? 0 : 1)
      row.push(Math.min(previous[j]! + 1, row[j - 1]! + 1, substituted))
    }
    previous = row
  }
  return previous[b.length]!
}
