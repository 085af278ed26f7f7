/** Runs generators one after the other on the JavaScript thread, in short slices between which the event loop turns. */

import { setImmediate } from 'node:timers'
import { CANCELLED, type CallTimes, type RuntimeCall } from '../contract.js'

/** Longest time that one slice holds the event loop, plus the step under way. */
const SLICE_MS = 8

interface Job {
  steps: Iterator<void, void, void>
  numTokens: number
  madeAt: number
  /** 0: it waits. */
  begunAt: number
  cancelled: boolean
  settled: boolean
  resolve(times: CallTimes): void
  reject(reason: unknown): void
}

/** First in, first out. A queue with jobs keeps the process alive. */
export class SliceQueue {
  #jobs: Job[] = []
  #scheduled = false
  #onIdle: () => void

  /** @param onIdle called whenever the last job has settled */
  constructor(onIdle: () => void) {
    this.#onIdle = onIdle
  }

  get isIdle(): boolean {
    return this.#jobs.length === 0
  }

  /** Queues a job; its first step runs on a later turn of the event loop. */
  submit(steps: Iterator<void, void, void>, numTokens: number): RuntimeCall {
    let job!: Job
    const settled = new Promise<CallTimes>((resolve, reject) => {
      const madeAt = performance.now()
      job = { steps, numTokens, madeAt, begunAt: 0, cancelled: false, settled: false, resolve, reject }
    })
    this.#jobs.push(job)
    this.#schedule()
    return { settled, cancel: () => this.#cancel(job) }
  }

  #schedule(): void {
    if (this.#scheduled || this.isIdle) return
    this.#scheduled = true
    setImmediate(() => {
      this.#scheduled = false
      this.#runSlice()
      this.#schedule()
    })
  }

  #runSlice(): void {
    const end = performance.now() + SLICE_MS
    while (!this.isIdle) {
      this.#step(this.#jobs[0]!)
      if (performance.now() >= end) return
    }
  }

  #step(job: Job): void {
    if (job.cancelled) {
      this.#settle(job, () => job.reject(CANCELLED))
      return
    }
    job.begunAt ||= performance.now()
    try {
      if (job.steps.next().done) this.#settle(job, () => job.resolve(timesOf(job)))
    } catch (error) {
      this.#settle(job, () => job.reject(error))
    }
  }

  #cancel(job: Job): 'dropped' | 'stopping' | 'done' {
    if (job.settled) return 'done'
    job.cancelled = true
    if (job.begunAt > 0) return 'stopping'
    this.#settle(job, () => job.reject(CANCELLED))
    return 'dropped'
  }

  #settle(job: Job, how: () => void): void {
    job.settled = true
    this.#jobs.splice(this.#jobs.indexOf(job), 1)
    how()
    if (this.isIdle) this.#onIdle()
  }
}

function timesOf({ numTokens, madeAt, begunAt }: Job): CallTimes {
  const ranMs = performance.now() - begunAt
  return { waitedMs: begunAt - madeAt, ranMs, batchTokens: numTokens, isFirst: true, fetchedBytes: 0 }
}
