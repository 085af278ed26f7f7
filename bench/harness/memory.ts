/** Peak memory of this process since a moment of our choosing (Linux), or since its start. */

import { readFileSync, writeFileSync } from 'node:fs'
import { setImmediate as nextTurn } from 'node:timers/promises'

/** Forgets the peak so far; collects garbage first, so that what was dropped does not count. @returns the memory in use now */
export async function resetPeakRss(): Promise<number> {
  // The second time frees the memory of large arrays that the first one found to be garbage.
  globalThis.gc?.()
  await nextTurn()
  globalThis.gc?.()
  try {
    writeFileSync('/proc/self/clear_refs', '5')
  } catch {
    // Elsewhere the peak is that of the whole run.
  }
  return process.memoryUsage.rss()
}

export function peakRssBytes(): number {
  try {
    const [, kibibytes] = /^VmHWM:\s+(\d+) kB$/m.exec(readFileSync('/proc/self/status', 'utf8'))!
    return Number(kibibytes) * 1024
  } catch {
    return process.resourceUsage().maxRSS * 1024
  }
}

/** Memory that can be had without swapping. */
export function availableBytes(): number {
  try {
    const [, kibibytes] = /^MemAvailable:\s+(\d+) kB$/m.exec(readFileSync('/proc/meminfo', 'utf8'))!
    return Number(kibibytes) * 1024
  } catch {
    return Number.POSITIVE_INFINITY
  }
}
