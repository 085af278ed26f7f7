/**
 * How long calls take by rates: reads of the experts that miss, a few at a time, while the resident ones are computed, and each of the
 * others as it arrives; to a GPU behind a copy.
 */

/** What a machine does in a second. Without them a simulation counts and says nothing of time. */
export interface SimulationRates {
  /** Bytes per second that the checkpoint is read at, all readers together. */
  disk: number
  /** Seconds of one read beside its bytes. @defaultValue 0 */
  readSeconds?: number
  /** Bytes per second that are copied from the host to a GPU, for a cache with `deviceBytes`. @defaultValue none: copies take no time */
  copy?: number
  /**
   * Seconds that the matmuls of one expert take for so many rows; or bytes of weights per second, for calls of few rows, which are bound by
   * memory.
   */
  expert: number | ((bytes: number, rows: number) => number)
  /** Seconds of a call beside its experts: router, shared experts, the way in and out. @defaultValue 0 */
  callSeconds?: number
}

/** Seconds of one call: in all, of its arithmetic, and of waiting with no arithmetic left to do, for reads and for copies. */
export interface CallTime {
  seconds: number
  computeSeconds: number
  waitSeconds: number
  copyWaitSeconds: number
}

/** An expert that is not resident. */
export interface TimedMiss {
  /** Of its arithmetic. */
  seconds: number
  /** Memory of the host has it: it is not read. */
  isInHost: boolean
}

/**
 * @param hitSeconds arithmetic of the experts that are resident
 * @param misses the others, in the order in which readers take them
 * @param expertBytes of one read, and of one copy
 */
export function callTime(
  { disk, readSeconds = 0, copy = Number.POSITIVE_INFINITY, callSeconds = 0 }: SimulationRates,
  readers: number,
  hitSeconds: number,
  misses: readonly TimedMiss[],
  expertBytes: number,
): CallTime {
  let reads = misses.reduce((count, { isInHost }) => count + (isInHost ? 0 : 1), 0)
  let [roundReads, roundBegin, read, copied] = [0, 0, 0, 0]
  let [now, compute, wait, copyWait] = [hitSeconds, hitSeconds, 0, 0]
  for (const { seconds, isInHost } of misses) {
    if (roundReads === readers) [roundReads, roundBegin] = [0, read]
    if (!isInHost) {
      // Reads go in rounds of as many as there are readers, which share the disk and end together.
      if (roundReads === 0) read = roundBegin + readSeconds + (Math.min(readers, reads) * expertBytes) / disk
      roundReads++
      reads--
    }
    // What the host has is at hand as soon as a reader is free to look.
    const arrived = isInHost ? roundBegin : read
    copied = Math.max(copied, arrived) + expertBytes / copy
    wait += Math.max(0, arrived - now)
    copyWait += Math.max(0, copied - Math.max(now, arrived))
    now = Math.max(now, copied) + seconds
    compute += seconds
  }
  return {
    seconds: callSeconds + now,
    computeSeconds: callSeconds + compute,
    waitSeconds: wait,
    copyWaitSeconds: copyWait,
  }
}
