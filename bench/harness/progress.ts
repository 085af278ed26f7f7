/** A progress bar below the lines that a benchmark prints; on anything but a terminal there are only the lines. */

import cliProgress from 'cli-progress'

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
  const bars = new cliProgress.MultiBar({
    stream,
    format: '{bar} {value}/{total}  {eta_formatted}  {label}',
    barCompleteChar: '█',
    barIncompleteChar: '░',
    barsize: 24,
    hideCursor: true,
    clearOnComplete: true,
    gracefulExit: false,
    // The bar is drawn when a cell begins, never while one is timed.
    autopadding: true,
  })
  const bar = bars.create(total, 0, { label: '' })
  return {
    line(text) {
      bars.log(`${text}\n`)
      bars.update()
    },
    next(label) {
      bar.increment(1, { label })
      bars.update()
    },
    stop: () => bars.stop(),
  }
}
