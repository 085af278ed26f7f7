/** Ends a text before the first of some strings. What may be the beginning of one is held back until it is decided. */

export class StopStrings {
  readonly #stops: readonly string[]
  /** The end of the text, as far as it begins a stop. */
  #held = ''

  /** @param stops none of them empty */
  constructor(stops: readonly string[]) {
    this.#stops = stops
  }

  /** Takes what was written, and gives what can be shown of it; `isStopped` where a stop is complete, and nothing more is to come. */
  push(written: string): { text: string; isStopped: boolean } {
    let text = ''
    for (const character of written) {
      const held = this.#held + character
      // The longest of those that end here begins first.
      const found = Math.max(0, ...this.#stops.filter(stop => held.endsWith(stop)).map(stop => stop.length))
      if (found > 0) {
        this.#held = ''
        return { text: text + held.slice(0, held.length - found), isStopped: true }
      }
      const shown = held.length - Math.max(0, ...this.#stops.map(stop => lengthBegun(held, stop)))
      text += held.slice(0, shown)
      this.#held = held.slice(shown)
    }
    return { text, isStopped: false }
  }

  /** What was held back, where the text ends by itself. */
  end(): string {
    const rest = this.#held
    this.#held = ''
    return rest
  }
}

/** The most characters at the end of `text` that `stop` begins with. */
function lengthBegun(text: string, stop: string): number {
  for (let length = Math.min(text.length, stop.length - 1); length > 0; length--)
    if (text.endsWith(stop.slice(0, length))) return length
  return 0
}
