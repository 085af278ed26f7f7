/** A strict JSON scanner. Unlike `JSON.parse` it reports duplicate keys and how a number is spelled, and it builds no objects. */

/** Deepest nesting that is skipped over; the reference JSON parser of safetensors stops there too. */
const MAX_DEPTH = 128

/** Most keys of an object that is not itself the list of tensors. */
const MAX_KEYS = 65_536

/** Most values that are skipped over in one text: what nobody reads is not worth more. */
const MAX_SKIPPED = 65_536

const UNSIGNED = /(?:0|[1-9][0-9]*)(?![0-9.eE])/y
const NUMBER = /-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?/y
const NEEDS_DECODING = /[^ -[\]-\uffff]/
const LONE_SURROGATE = /\p{Surrogate}/u

/** What is wrong, and at which UTF-16 unit of the text. */
export class JsonScanError extends Error {
  readonly position: number

  constructor(message: string, position: number) {
    super(message)
    this.position = position
  }
}

/** A string of the text as a message shows it: quoted, and never whole where it is long. */
export function quoted(value: string): string {
  return JSON.stringify(value.length > 80 ? `${value.slice(0, 80)}…` : value)
}

/** Reads one JSON text from left to right; every method throws {@link JsonScanError} where the text is not what was asked for. */
export class JsonScanner {
  private readonly text: string
  private position = 0
  private numSkipped = 0

  constructor(text: string) {
    this.text = text
  }

  /** UTF-16 units consumed so far. */
  get offset(): number {
    return this.position
  }

  fail(message: string): never {
    throw new JsonScanError(message, this.position)
  }

  /** Consumes `token` (one character) if it is next after whitespace. */
  accept(token: string): boolean {
    this.skipWhitespace()
    if (this.text[this.position] !== token) return false
    this.position++
    return true
  }

  expect(token: string): void {
    if (!this.accept(token)) this.fail(`expected '${token}'`)
  }

  /** Nothing but whitespace may follow. */
  end(): void {
    this.skipWhitespace()
    if (this.position !== this.text.length) this.fail('trailing characters')
  }

  /** Calls `member` for each key of an object, which must consume the value. A key that comes twice is an error. */
  object(member: (key: string) => void): void {
    const seen = new Set<string>()
    for (const key of this.keys()) {
      if (seen.has(key)) this.fail(`duplicate key ${quoted(key)}`)
      seen.add(key)
      member(key)
    }
  }

  /** The keys of an object, at most `maxKeys`, one by one; the caller consumes each value before it asks for the next key. */
  *keys(maxKeys = MAX_KEYS): Generator<string, void, undefined> {
    this.expect('{')
    if (this.accept('}')) return
    let count = 0
    do {
      if (++count > maxKeys) this.fail(`more than ${maxKeys} keys in an object`)
      const key = this.string()
      this.expect(':')
      yield key
    } while (this.accept(','))
    this.expect('}')
  }

  /** Calls `element` for each place of an array, at most `maxLength`, which must consume the value. */
  array(maxLength: number, element: () => void): void {
    this.expect('[')
    if (this.accept(']')) return
    let count = 0
    do {
      if (++count > maxLength) this.fail(`more than ${maxLength} elements in an array`)
      element()
    } while (this.accept(','))
    this.expect(']')
  }

  string(): string {
    this.expect('"')
    const start = this.position
    let end = this.text.indexOf('"', start)
    if (end < 0) this.fail('unterminated string')
    let value = this.text.slice(start, end)
    if (NEEDS_DECODING.test(value)) {
      end = start
      for (let c = this.text.charCodeAt(end); c !== 34; c = this.text.charCodeAt(end)) {
        if (Number.isNaN(c)) this.fail('unterminated string')
        end += c === 92 ? 2 : 1
      }
      try {
        value = JSON.parse(this.text.slice(start - 1, end + 1)) as string
      } catch {
        this.fail('malformed string')
      }
      if (LONE_SURROGATE.test(value)) this.fail('lone surrogate in a string')
    }
    this.position = end + 1
    return value
  }

  /** A non-negative safe integer, written without fraction and exponent. */
  unsigned(): number {
    this.skipWhitespace()
    UNSIGNED.lastIndex = this.position
    const match = UNSIGNED.exec(this.text)
    if (!match) this.fail('expected a non-negative integer')
    const value = Number(match[0])
    if (!Number.isSafeInteger(value)) this.fail('integer above 2^53')
    this.position = UNSIGNED.lastIndex
    return value
  }

  /** Consumes `null` if it is next. */
  acceptNull(): boolean {
    this.skipWhitespace()
    return this.word('null')
  }

  /** Consumes any value. */
  skipValue(depth = 0): void {
    if (depth > MAX_DEPTH) this.fail('nested too deeply')
    if (++this.numSkipped > MAX_SKIPPED)
      this.fail(`more than ${MAX_SKIPPED} values that have no meaning here`)
    this.skipWhitespace()
    const next = this.text[this.position]
    if (next === '{') this.object(() => this.skipValue(depth + 1))
    else if (next === '[') this.array(MAX_SKIPPED, () => this.skipValue(depth + 1))
    else if (next === '"') this.string()
    else if (!this.word('true') && !this.word('false') && !this.word('null')) {
      NUMBER.lastIndex = this.position
      if (!NUMBER.test(this.text)) this.fail('expected a value')
      this.position = NUMBER.lastIndex
    }
  }

  private word(word: string): boolean {
    if (!this.text.startsWith(word, this.position)) return false
    this.position += word.length
    return true
  }

  private skipWhitespace(): void {
    for (;;) {
      const c = this.text.charCodeAt(this.position)
      if (c !== 32 && c !== 10 && c !== 13 && c !== 9) return
      this.position++
    }
  }
}
