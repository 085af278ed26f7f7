/** A progress bar below the lines that a benchmark prints; on anything but a terminal there are only the lines. */

import { formatDuration } from '../../lib/cli/format.js'
import { filledBar, StatusLine } from '../../lib/cli/status-line.js'

export interface Progress {
  /** Prints a line above the bar. */
  line(text: string): void
  /** Begins the next cell. */
  next(label: string): void
  stop(): void
}

export function showProgress(total: number, stream: NodeJS.WriteStream = process.stdout): Progress {
  if (!stream.isTTY) {
    return { line: text => stream.write(`${text}\n`), next() {}, stop() {} }
  }
  const bar = new StatusLine(stream)
  const began = performance.now()
  let begun = 0
  return {
    line: text => bar.print(text),
    // The bar is drawn when a cell begins, never while one is timed.
    next(label) {
      const done = begun++
      const left =
        done > 0 ? `${formatDuration(((performance.now() - began) / done) * (total - done))}  ` : ''
      bar.show(`${filledBar(begun / total, 24)} ${begun}/${total}  ${left}${label}`)
    },
    stop: () => bar.clear(),
  }
}
