/** Text on the left as it comes, and at the end of each line which experts wrote it. */

import { heatLine, type Paint, padEnd } from '../../lib/cli/format.js'

/** Columns of the text. */
const WIDTH = 48
/** A line ends at the first space from here on, so that few words are cut. */
const SOFT_WIDTH = 40
const INDENT = '  '

/** A line as it was shown: its text, and how many of its tokens each expert wrote. */
export interface WrittenLine {
  text: string
  /** `[numExperts]` */
  load: Float64Array
}

export class LiveText {
  /** The lines that have ended. */
  readonly lines: WrittenLine[] = []
  readonly #write: (text: string) => void
  readonly #paint: Paint
  readonly #load: Float64Array
  #column = 0
  #text = ''

  constructor(write: (text: string) => void, paint: Paint, numExperts: number) {
    this.#write = write
    this.#paint = paint
    this.#load = new Float64Array(numExperts)
  }

  /** The prompt: text that no expert wrote. */
  prompt(text: string): void {
    for (const character of text) this.#put(this.#paint.dim(character), character)
  }

  /** A token's characters, and its experts. */
  push(text: string, experts: Int32Array): void {
    for (const id of experts) if (id >= 0) this.#load[id]!++
    for (const character of text) this.#put(character, character)
  }

  /** Ends the last line. */
  end(): void {
    if (this.#column > 0) this.#endLine()
  }

  #put(shown: string, character: string): void {
    if (character === '\n') {
      this.#endLine()
      return
    }
    if (this.#column === 0) this.#write(INDENT)
    // Control characters would move the cursor.
    const isControl = /\p{Cc}/u.test(character)
    this.#write(isControl ? ' ' : shown)
    this.#text += isControl ? ' ' : character
    this.#column++
    if (this.#column >= WIDTH || (character === ' ' && this.#column >= SOFT_WIDTH)) this.#endLine()
  }

  #endLine(): void {
    const heat = this.#load.some(count => count > 0) ? this.#paint.cyan(heatLine(this.#load)) : ''
    const gap = padEnd('', (this.#column === 0 ? INDENT.length : 0) + WIDTH - this.#column + 2)
    this.#write(`${heat === '' ? '' : gap}${heat}\n`)
    this.lines.push({ text: this.#text, load: this.#load.slice() })
    this.#load.fill(0)
    this.#column = 0
    this.#text = ''
  }
}
