/**
 * What a client has not read yet. Its connection holds a bounded number of bytes (the high-water mark of the server); beyond it the writer
 * pauses, and a client that reads nothing for too long is cut off.
 */

import type { Writable } from 'node:stream'

/** What of a response, or of any stream, is needed. */
export type Sink = Pick<Writable, 'write' | 'destroy' | 'writableNeedDrain' | 'on' | 'once'>

export class UnreadBytes {
  readonly #sink: Sink
  readonly #timeoutMs: number
  #timer: NodeJS.Timeout | undefined

  /** @param onDrain called where `isFull` has become false */
  constructor(sink: Sink, timeoutMs: number, onDrain: () => void) {
    this.#sink = sink
    this.#timeoutMs = timeoutMs
    sink.on('drain', () => {
      this.#stop()
      onDrain()
    })
    sink.once('close', () => this.#stop())
  }

  get isFull(): boolean {
    return this.#sink.writableNeedDrain
  }

  write(text: string): void {
    this.#sink.write(text)
    if (this.isFull) this.watch()
  }

  /** Gives the client `timeoutMs` to read what there is, counted from the first call since it last did. */
  watch(): void {
    this.#timer ??= setTimeout(() => this.#sink.destroy(), this.#timeoutMs)
  }

  #stop(): void {
    clearTimeout(this.#timer)
    this.#timer = undefined
  }
}
