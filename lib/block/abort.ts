/** Being told of an abort. */

/** Who waits for a signal, and the one listener that the signal has for all of them. */
interface Waiting {
  callbacks: Set<() => void>
  listener: () => void
}

const waitingFor = new WeakMap<AbortSignal, Waiting>()

/**
 * Calls `callback` when the signal aborts, at once if it has aborted already. However many wait for one signal, it has one listener: Node warns
 * of a leak from the eleventh on, and a server may give one signal to all its calls.
 *
 * @returns ends the waiting; to be called once, whatever came of it
 * @throws what a signal throws whose methods are not those of `AbortSignal`
 */
export function onAbort(signal: AbortSignal, callback: () => void): () => void {
  const isAborted = signal.aborted
  const waiting = waitingFor.get(signal) ?? startListening(signal)
  // A function of its own: the same callback may wait twice.
  const entry = () => callback()
  waiting.callbacks.add(entry)
  if (isAborted) entry()
  return () => {
    waiting.callbacks.delete(entry)
    if (waiting.callbacks.size > 0) return
    waitingFor.delete(signal)
    signal.removeEventListener('abort', waiting.listener)
  }
}

function startListening(signal: AbortSignal): Waiting {
  const callbacks = new Set<() => void>()
  const listener = () => {
    for (const callback of [...callbacks]) callback()
  }
  signal.addEventListener('abort', listener, { once: true })
  const waiting = { callbacks, listener }
  waitingFor.set(signal, waiting)
  return waiting
}
