/** What a layer did in the last minute: what it has counted now, less what it had counted then. */

import type { LayerStats } from 'sparse-experts'

/** How far back it goes, and how often it is to be told of the time. */
const WINDOW_MS = 60_000
export const KEEP_EVERY_MS = 1000

type Counted = Pick<LayerStats, 'tokens' | 'tokensPerExpert'>

/** Of some time until now. */
export interface RecentLoad {
  /** How long that is: a minute, or since the start. */
  seconds: number
  /** Rows of finished calls. */
  tokens: number
  /** Rows that each expert worked on, `[numExperts]`. */
  tokensPerExpert: number[]
}

export class LoadHistory {
  readonly #kept: { at: number; counted: Counted }[] = []

  /**
   * @param count gives what has been counted so far
   * @param clock in milliseconds
   */
  constructor(
    private readonly count: () => Counted,
    private readonly clock: () => number = () => performance.now(),
  ) {
    this.keep()
  }

  /** To be called every {@link KEEP_EVERY_MS}. */
  keep(): void {
    const at = this.clock()
    this.#kept.push({ at, counted: this.count() })
    while (this.#kept[1] && this.#kept[1].at <= at - WINDOW_MS) this.#kept.shift()
  }

  recent(): RecentLoad {
    const { at, counted: then } = this.#kept[0]!
    const now = this.count()
    return {
      seconds: (this.clock() - at) / 1000,
      tokens: now.tokens - then.tokens,
      tokensPerExpert: Array.from(
        now.tokensPerExpert,
        (rows, expert) => rows - then.tokensPerExpert[expert]!,
      ),
    }
  }
}
