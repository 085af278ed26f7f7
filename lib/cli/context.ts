/** What a command gets from `main`. */

import type { Paint } from './format.js'

export interface CommandContext {
  /** Aborted by Ctrl-C. */
  signal: AbortSignal
  /** Colours of stdout. */
  paint: Paint
  /** Writes lines to stdout. */
  print(lines: readonly string[]): void
  /** Writes lines to stderr: what is going on, never a result. */
  note(lines: readonly string[]): void
}
