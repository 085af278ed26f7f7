/** A progress bar on a terminal; a few plain lines anywhere else. */

import cliProgress from 'cli-progress'
import { formatByteRate, formatBytes, formatPercent } from './format.js'

/** Shows how far a load is. */
export interface LoadBar {
  update(progress: { loadedBytes: number; totalBytes: number }): void
  /** Removes the bar; idempotent. */
  stop(): void
}

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
  const line = new cliProgress.SingleBar({
    stream,
    format: `${label}  {bar} {percentage}%  {loaded} of {all}  {rate}`,
    barCompleteChar: '█',
    barIncompleteChar: '░',
    barsize: 30,
    hideCursor: true,
    clearOnComplete: true,
    // The bar must not swallow Ctrl-C's own output or keep the process alive.
    gracefulExit: false,
  })
  let started = false
  return {
    update({ loadedBytes, totalBytes }) {
      const fields = {
        loaded: formatBytes(loadedBytes),
        all: formatBytes(totalBytes),
        rate: formatByteRate(loadedBytes, performance.now() - began),
      }
      if (started) line.update(loadedBytes, fields)
      else line.start(totalBytes, loadedBytes, fields)
      started = true
    },
    stop() {
      if (started) line.stop()
      started = false
    },
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
