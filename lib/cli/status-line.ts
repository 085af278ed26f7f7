/** One line at the end of a terminal's output, rewritten in place. */

// Carriage return, then "erase to the end of the line".
const CLEAR = '\r\u001b[K'

/** What a status line asks of a terminal. */
export type Terminal = Pick<NodeJS.WriteStream, 'write' | 'columns'>

/** Until it is cleared, nothing but {@link print} may write to the terminal. */
export class StatusLine {
  #terminal: Terminal
  #text = ''

  constructor(terminal: Terminal) {
    this.#terminal = terminal
  }

  /** Replaces the line. What is wider than the terminal is cut off, because a wrapped line could not be cleared. */
  show(text: string): void {
    this.#text = [...text].slice(0, (this.#terminal.columns || 80) - 1).join('')
    this.#terminal.write(CLEAR + this.#text)
  }

  /** Writes a line above, which stays. */
  print(line: string): void {
    this.#terminal.write(`${CLEAR}${line}\n${this.#text}`)
  }

  /** Removes the line; idempotent. */
  clear(): void {
    if (this.#text !== '') this.#terminal.write(CLEAR)
    this.#text = ''
  }
}

/** A bar of `width` columns, filled to a fraction. */
export function filledBar(fraction: number, width: number): string {
  const filled = Math.round(Math.min(1, Math.max(0, fraction)) * width)
  return '█'.repeat(filled) + '░'.repeat(width - filled)
}
