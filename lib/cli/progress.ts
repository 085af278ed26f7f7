/** A progress bar on a terminal; a few plain lines anywhere else. */

import { formatByteRate, formatBytes, formatPercent } from './format.js'
import { filledBar, StatusLine } from './status-line.js'

/** Shows how far a load is. */
export interface LoadBar {
  update(progress: { loadedBytes: number; totalBytes: number }): void
  /** Removes the bar; idempotent. */
  stop(): void
}

const REDRAW_INTERVAL_MS = 100
const PLAIN_INTERVAL_MS = 2000

/**
 * @param label what is being loaded
 * @param stream where to show it @defaultValue stderr, so that stdout stays clean for results
 */
export function loadBar(label: string, stream: NodeJS.WriteStream = process.stderr): LoadBar {
  return stream.isTTY ? terminalBar(label, stream) : plainLines(label, stream)
}

function terminalBar(label: string, stream: NodeJS.WriteStream): LoadBar {
  const began = performance.now()
  const line = new StatusLine(stream)
  let drawn = Number.NEGATIVE_INFINITY
  return {
    update({ loadedBytes, totalBytes }) {
      const now = performance.now()
      if (now - drawn < REDRAW_INTERVAL_MS && loadedBytes < totalBytes) return
      drawn = now
      const fraction = totalBytes > 0 ? loadedBytes / totalBytes : 1
      const rate = formatByteRate(loadedBytes, now - began)
      line.show(
        `${label}  ${filledBar(fraction, 30)} ${Math.floor(fraction * 100)}%  ` +
          `${formatBytes(loadedBytes)} of ${formatBytes(totalBytes)}  ${rate}`,
      )
    },
    stop: () => line.clear(),
  }
}

function plainLines(label: string, stream: NodeJS.WriteStream): LoadBar {
  let last = performance.now()
  let first = true
  return {
    update({ loadedBytes, totalBytes }) {
      const now = performance.now()
      if (first) stream.write(`${label}: ${formatBytes(totalBytes)}\n`)
      else if (now - last >= PLAIN_INTERVAL_MS && loadedBytes < totalBytes) {
        stream.write(`${label}: ${formatPercent(loadedBytes / totalBytes)}, ${formatBytes(loadedBytes)}\n`)
      } else return
      first = false
      last = now
    },
    stop() {},
  }
}
