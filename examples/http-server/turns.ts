/** Long work on the main thread in slices, between which the event loop takes a turn and answers others. */

import { setImmediate as nextTurn } from 'node:timers/promises'

/** Milliseconds of a slice. */
const SLICE_MS = 5

export class Turns {
  private began = performance.now()

  /** @param signal ends the work at the next turn */
  constructor(private readonly signal?: AbortSignal) {}

  /** The slice is over: `take` is to be awaited. Asked after each small piece of work. */
  get due(): boolean {
    return performance.now() - this.began > SLICE_MS
  }

  async take(): Promise<void> {
    await nextTurn()
    this.signal?.throwIfAborted()
    this.began = performance.now()
  }
}
