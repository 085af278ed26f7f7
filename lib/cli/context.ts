/** What a command gets from the command line. */

import type { Paint } from './format.js'

export interface CommandContext {
  /** Aborted by Ctrl-C. */
  signal: AbortSignal
  /** Colours of stdout. */
  paint: Paint
  /** Where progress is shown, so that stdout stays clean for results. */
  stderr: NodeJS.WriteStream
  /** Writes lines to stdout. */
  print(lines: readonly string[]): void
  /** Writes lines to stderr: what is going on, never a result. */
  note(lines: readonly string[]): void
}
