/**
 * Limits on the time and the memory of each case, kept by a thread of its own: what holds the main thread, in JavaScript or in native code,
 * is ended all the same. The process dies with the case on stderr.
 */

import { Worker } from 'node:worker_threads'

/** Longest description of a case that is kept. */
const MAX_TEXT = 64 * 1024
const LOOK_MS = 100

export interface CaseLimits {
  /** Of one case. Many times what a case takes on an idle machine. */
  seconds: number
  /** Resident memory of the process, above that at its first case. */
  mebibytes: number
}

/** Runs in a thread that shares nothing with the cases but `numbers` (case, bytes of the text) and `text`. */
const WATCH = `
  const { workerData: { numbers, text, seconds, mebibytes, lookMs } } = require('node:worker_threads')
  const { writeSync } = require('node:fs')
  let last = 0, since = performance.now(), first
  setInterval(() => {
    const now = Atomics.load(numbers, 0)
    const bytes = process.memoryUsage.rss()
    if (now !== 0) first ??= bytes
    if (now !== last) [last, since] = [now, performance.now()]
    const slow = now !== 0 && performance.now() - since > seconds * 1000
    const large = now !== 0 && bytes - first > mebibytes * 2 ** 20
    if (!slow && !large) return
    const what = slow ? 'more than ' + seconds + ' s' : 'more than ' + mebibytes + ' MiB'
    writeSync(2, 'case ' + now + ' takes ' + what + ': ' + Buffer.from(text.slice(0, numbers[1])) + '\\n')
    process.kill(process.pid, 'SIGKILL')
  }, lookMs)
`

/** Begins to watch; the function that it returns is called at the beginning of each case, with what will be printed of it. */
export function watchCases({ seconds, mebibytes }: CaseLimits): (description: unknown) => void {
  const numbers = new Int32Array(new SharedArrayBuffer(8))
  const text = new Uint8Array(new SharedArrayBuffer(MAX_TEXT))
  const worker = new Worker(WATCH, {
    eval: true,
    workerData: { numbers, text, seconds, mebibytes, lookMs: LOOK_MS },
  })
  worker.unref()
  return description => {
    const bytes = Buffer.from(JSON.stringify(description)).subarray(0, MAX_TEXT)
    text.set(bytes)
    numbers[1] = bytes.byteLength
    Atomics.add(numbers, 0, 1)
  }
}
