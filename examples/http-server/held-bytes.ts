/** The bytes that requests hold, over all connections: bodies while they arrive, and what becomes of them until the answer is sent. */

export class HeldBytes {
  private total = 0

  /** @param limit the most bytes that all requests together may hold */
  constructor(readonly limit: number) {}

  /** Bytes held now. */
  get current(): number {
    return this.total
  }

  /** The share of one request, empty at first. */
  open(): HeldShare {
    let share = 0
    return {
      take: bytes => {
        if (this.total + bytes > this.limit) return false
        this.total += bytes
        share += bytes
        return true
      },
      release: () => {
        this.total -= share
        share = 0
      },
    }
  }
}

export interface HeldShare {
  /** Adds to the share; false, and nothing is added, where all requests would hold more than the limit. */
  take(bytes: number): boolean
  /** Gives the whole share back. */
  release(): void
}
