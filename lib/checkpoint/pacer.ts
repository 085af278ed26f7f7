/** Keeps long work on the main thread from holding the event loop. */

import { setImmediate as nextTurn } from 'node:timers/promises'

/** Time that the event loop may be held, in milliseconds. */
const TURN_MS = 5

/** Bytes decoded at a time: about a millisecond. */
const PIECE_BYTES = 1024 * 1024

/** Gives the event loop a turn when the last one is long enough ago; also where an abort is noticed. */
export class Pacer {
  readonly signal: AbortSignal | undefined
  private last = performance.now()

  constructor(signal?: AbortSignal) {
    this.signal = signal
  }

  /** True when it is time to await {@link turn}. */
  get due(): boolean {
    return performance.now() - this.last > TURN_MS
  }

  async turn(): Promise<void> {
    await nextTurn()
    this.signal?.throwIfAborted()
    this.last = performance.now()
  }
}

/** Decodes UTF-8 strictly and in pieces; a byte order mark stays. What is malformed is the error that `malformed` makes. */
export async function textOf(bytes: Uint8Array, pacer: Pacer, malformed: () => Error): Promise<string> {
  const decoder = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true })
  const pieces: string[] = []
  for (let start = 0; start < bytes.byteLength || start === 0; start += PIECE_BYTES) {
    const stream = start + PIECE_BYTES < bytes.byteLength
    try {
      pieces.push(decoder.decode(bytes.subarray(start, start + PIECE_BYTES), { stream }))
    } catch {
      throw malformed()
    }
    if (pacer.due) await pacer.turn()
  }
  return pieces.join('')
}
