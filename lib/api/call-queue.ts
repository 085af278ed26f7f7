/** The asynchronous calls of a layer, from their acceptance to their end: the bound, leases, copies, order and aborts. */

import { onAbort } from '../block/abort.js'
import { MoeError } from '../block/errors.js'
import { CANCELLED, type CallTimes, type LayerRuntime, type RuntimeCall } from '../devices/contract.js'
import { type Copies, CopyMemory, copyLarge } from './borrow.js'
import { checkSignal, disposedError, type PreparedForward } from './forward-arguments.js'
import { type Lease, leaseBuffers } from './leases.js'

/** Rows that may wait or run at a time. The layers of a model share one bound. */
export class QueueBound {
  queuedTokens = 0
  readonly #maxQueuedTokens: number

  constructor(maxQueuedTokens: number) {
    this.#maxQueuedTokens = maxQueuedTokens
  }

  /** Why so many more rows are not accepted; null: they are. */
  refusal(numTokens: number): MoeError | null {
    const [queuedTokens, maxQueuedTokens] = [this.queuedTokens, this.#maxQueuedTokens]
    if (queuedTokens === 0 || queuedTokens + numTokens <= maxQueuedTokens) return null
    return new MoeError(
      'ERR_MOE_QUEUE_FULL',
      `The queue holds ${queuedTokens} rows; ${numTokens} more exceed its ${maxQueuedTokens}. Wait for a call to settle, answer with status 429, or raise maxQueuedTokens`,
      { details: { queuedTokens, maxQueuedTokens } },
    )
  }
}

/** Calls run and settle in the order in which they were made. */
export class CallQueue {
  readonly #runtime: LayerRuntime
  readonly #bound: QueueBound
  readonly #copyMemory = new CopyMemory()
  #depth = 0
  #queuedTokens = 0
  /** To be told when all calls have settled. */
  readonly #waitingForIdle: (() => void)[] = []
  /** Until the calls that are being copied have been started. */
  #entering: Promise<void> | null = null
  /** Until the results that are being copied have arrived. */
  #leaving: Promise<unknown> | null = null

  constructor(runtime: LayerRuntime, bound: QueueBound) {
    this.#runtime = runtime
    this.#bound = bound
  }

  /** Calls that have not settled. */
  get depth(): number {
    return this.#depth
  }

  /** Their rows. */
  get queuedTokens(): number {
    return this.#queuedTokens
  }

  /** Frees the runtime once the calls that were accepted have been started; it keeps what they need. */
  dispose(): void {
    if (this.#entering) void this.#entering.then(() => this.#runtime.dispose())
    else this.#runtime.dispose()
  }

  /** Resolves when all calls have settled. */
  async idle(): Promise<void> {
    if (this.#depth > 0) await new Promise<void>(resolve => this.#waitingForIdle.push(resolve))
  }

  /**
   * Runs a call to its end. Whatever happens, a signal that throws included, its memory is given back.
   *
   * @param onFailure gets what a call rejects with that was accepted, or refused because the queue is full
   */
  async run(
    prepared: PreparedForward,
    asked: unknown,
    onFailure: (reason: unknown) => void,
  ): Promise<CallTimes> {
    const signal = checkSignal(asked)
    signal?.throwIfAborted()
    const { numTokens } = prepared.request
    const refusal = this.#bound.refusal(numTokens)
    if (refusal) {
      onFailure(refusal)
      throw refusal
    }
    const lease = leaseBuffers(prepared.uses)
    this.#queuedTokens += numTokens
    this.#bound.queuedTokens += numTokens
    this.#depth++
    let copies: Copies | null = null
    try {
      copies = copyLarge(prepared, this.#copyMemory)
      const copied = copies?.takeIn(lease, signal)
      const call =
        this.#entering || copied
          ? await this.#enter(prepared, copied, lease, signal)
          : this.#runtime.forward(prepared.request)
      const stopListening = signal ? cancelOnAbort(call, signal) : null
      let times: CallTimes
      try {
        // Right here, whatever the call is like: ends that come together settle in order, as each takes the same number of turns.
        times = await call.settled
      } catch (error) {
        throw withCallers(error)
      } finally {
        stopListening?.()
      }
      lease.checkStillThere()
      const givenBack = copies?.giveBack(lease)
      if (this.#leaving || givenBack) await this.#leave(givenBack)
      return times
    } catch (error) {
      const reason = reasonOf(error, lease, signal)
      onFailure(reason)
      throw reason
    } finally {
      this.#depth--
      this.#queuedTokens -= numTokens
      this.#bound.queuedTokens -= numTokens
      lease.release()
      copies?.release()
      if (this.#depth === 0) {
        for (const resolve of this.#waitingForIdle) resolve()
        this.#waitingForIdle.length = 0
      }
    }
  }

  /** Starts a call once its large arrays are copied, behind those before it. */
  async #enter(
    prepared: PreparedForward,
    copied: Promise<void> | null | undefined,
    lease: Lease,
    signal: AbortSignal | undefined,
  ): Promise<RuntimeCall> {
    const before = this.#entering
    const started = (async () => {
      await copied
      await before
      signal?.throwIfAborted()
      lease.checkStillThere()
      return this.#runtime.forward(prepared.request)
    })()
    const entering: Promise<void> = Promise.allSettled([before, started]).then(() => {
      if (this.#entering === entering) this.#entering = null
    })
    this.#entering = entering
    return started
  }

  /** Waits for a copy of results, and for those of earlier calls. */
  async #leave(copied: Promise<void> | null | undefined): Promise<void> {
    const leaving = Promise.allSettled([this.#leaving, copied])
    this.#leaving = leaving
    await leaving
    if (this.#leaving === leaving) this.#leaving = null
    await copied
  }
}

/** What a call rejects with whose end was `error`. */
function reasonOf(error: unknown, lease: Lease, signal: AbortSignal | undefined): unknown {
  if (error === CANCELLED) return signal?.aborted ? signal.reason : disposedError()
  if (error instanceof MoeError || error === signal?.reason) return error
  // A device on this thread reads undefined where memory is gone, and takes it for a wrong value.
  try {
    lease.checkStillThere()
    return error
  } catch (gone) {
    return gone
  }
}

/**
 * Gives an error with a code, which a device made where nothing of the caller's ran, the frames of those who await the call. To remember for each
 * call where it was made would cost all of them, and few fail.
 */
function withCallers(error: unknown): unknown {
  if (error instanceof Error && 'code' in error) Error.captureStackTrace(error, withCallers)
  return error
}

/**
 * Has the signal cancel a call.
 *
 * @returns ends that, to be called when the call has ended: nothing uses its memory any more. Throws what a signal threw that could not be
 * listened to.
 */
function cancelOnAbort(call: RuntimeCall, signal: AbortSignal): () => void {
  try {
    return onAbort(signal, () => call.cancel())
  } catch (error) {
    call.cancel()
    return () => {
      throw error
    }
  }
}
