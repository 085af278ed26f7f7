/**
 * How long calls take by rates: reads of the experts that miss, a few at a time, while the resident ones are computed, and each of the
 * others as it arrives.
 */

/** What a machine does in a second. Without them a simulation counts and says nothing of time. */
export interface SimulationRates {
  /** Bytes per second that the checkpoint is read at, all readers together. */
  disk: number
  /** Seconds of one read beside its bytes. @defaultValue 0 */
  readSeconds?: number
  /**
   * Seconds that the matmuls of one expert take for so many rows; or bytes of weights per second, for calls of few rows, which are bound by
   * memory.
   */
  expert: number | ((bytes: number, rows: number) => number)
  /** Seconds of a call beside its experts: router, shared experts, the way in and out. @defaultValue 0 */
  callSeconds?: number
}

/** Seconds of one call: in all, of its arithmetic, and of waiting for reads with no arithmetic left to do. */
export interface CallTime {
  seconds: number
  computeSeconds: number
  waitSeconds: number
}

/**
 * @param hitSeconds arithmetic of the experts that are resident
 * @param missSeconds of each of the others, in the order in which they are read
 * @param expertBytes of one read
 */
export function callTime(
  { disk, readSeconds = 0, callSeconds = 0 }: SimulationRates,
  readers: number,
  hitSeconds: number,
  missSeconds: ArrayLike<number>,
  expertBytes: number,
): CallTime {
  let [read, now, compute, wait] = [0, hitSeconds, hitSeconds, 0]
  for (let miss = 0; miss < missSeconds.length; miss++) {
    // Reads go in rounds of as many as there are readers, which share the disk and end together.
    if (miss % readers === 0)
      read += readSeconds + (Math.min(readers, missSeconds.length - miss) * expertBytes) / disk
    wait += Math.max(0, read - now)
    now = Math.max(now, read) + missSeconds[miss]!
    compute += missSeconds[miss]!
  }
  return { seconds: callSeconds + now, computeSeconds: callSeconds + compute, waitSeconds: wait }
}
