/**
 * Continuous batching: a step is one call of the decoder with the next rows of all running completions, and between two steps completions
 * join and leave. Each layer then reads an expert once for all of them.
 *
 * A running completion has one row in a step. Prompts share `maxPromptRows`, the oldest first, so that a step stays short however
 * many of them come; a long one is read in several steps. Rows do not depend on each other, so a completion's text does not depend on who
 * runs beside it.
 */

import { setImmediate as nextTurn } from 'node:timers/promises'
import type { Decoder, SequencePart } from '../decoder/decoder.js'
import { ApiError } from './api-error.js'
import type { CompletionRequest } from './completion-request.js'
import { Job, type Listener } from './job.js'
import type { ServerLimits } from './limits.js'

export type SchedulerLimits = Pick<ServerLimits, 'maxSequences' | 'maxWaiting' | 'maxPromptRows'>

/** Since the start; `running` and `waiting` now. */
export interface SchedulerFigures {
  running: number
  waiting: number
  finished: number
  failed: number
  cancelled: number
  refused: number
  steps: number
  /** Rows of all steps, those of prompts among them. */
  rows: number
  /** Tokens that were written. */
  tokens: number
}

interface Planned {
  job: Job
  part: SequencePart
}

export class Scheduler {
  readonly #decoder: Decoder
  readonly #limits: SchedulerLimits
  /** In the order in which they joined. */
  #running: Job[] = []
  #waiting: Job[] = []
  #loop: Promise<void> | undefined
  readonly #counts = { finished: 0, failed: 0, cancelled: 0, refused: 0, steps: 0, rows: 0, tokens: 0 }

  constructor(decoder: Decoder, limits: SchedulerLimits) {
    this.#decoder = decoder
    this.#limits = limits
  }

  get figures(): SchedulerFigures {
    return { running: this.#running.length, waiting: this.#waiting.length, ...this.#counts }
  }

  /** @throws {@link ApiError} 429 where as many wait as may */
  submit(request: CompletionRequest, listener: Listener): Job {
    const { maxSequences, maxWaiting } = this.#limits
    if (this.#running.length >= maxSequences && this.#waiting.length >= maxWaiting) {
      this.#counts.refused++
      const message = `${maxSequences} completions run and ${maxWaiting} wait: try again later`
      throw new ApiError(429, 'rate_limit_exceeded', message)
    }
    const job = new Job(this.#decoder, request, listener)
    this.#waiting.push(job)
    this.#admit()
    this.wake()
    return job
  }

  /** Takes a completion out. The step that runs may still compute a row for it; no later one does. */
  cancel(job: Job): void {
    if (job.isOver) return
    job.cancel()
    this.#counts.cancelled++
    this.#waiting = this.#waiting.filter(other => other !== job)
    this.#running = this.#running.filter(other => other !== job)
    this.#admit()
    this.wake()
  }

  /** Goes on, where completions had to pause and may do so no longer. */
  wake(): void {
    this.#loop ??= this.#run().finally(() => {
      this.#loop = undefined
      // Woken after the loop had looked for the last time.
      if (this.#running.some(job => !job.isPaused)) this.wake()
    })
  }

  /** Resolves where no step runs. */
  async idle(): Promise<void> {
    while (this.#loop) await this.#loop
  }

  /** From the waiting line into free places. */
  #admit(): void {
    const free = this.#limits.maxSequences - this.#running.length
    this.#running.push(...this.#waiting.splice(0, Math.max(0, free)))
  }

  async #run(): Promise<void> {
    for (;;) {
      // Requests and disconnects of the meantime are heard before each step, whatever the device does.
      await nextTurn()
      const planned = this.#plan()
      if (planned.length === 0) return
      await this.#step(planned)
      this.#running = this.#running.filter(job => !job.isOver)
      this.#admit()
    }
  }

  #plan(): Planned[] {
    const planned: Planned[] = []
    let promptRows = this.#limits.maxPromptRows
    for (const job of this.#running) {
      if (job.isPaused) continue
      const isWriting = job.pendingRows === 1
      const numRows = isWriting ? 1 : Math.min(job.pendingRows, promptRows)
      if (numRows === 0) continue
      if (!isWriting) promptRows -= numRows
      planned.push({ job, part: job.take(numRows) })
    }
    return planned
  }

  async #step(planned: readonly Planned[]): Promise<void> {
    let logits: Float32Array
    try {
      logits = (await this.#decoder.forward(planned.map(({ part }) => part))).logits
    } catch (error) {
      // What the caches hold now is not known: none of these can go on.
      for (const { job } of planned) this.#fail(job, error)
      return
    }
    this.#counts.steps++
    const { vocabSize } = this.#decoder.config
    let row = 0
    for (const { job, part } of planned) {
      row += part.tokens.length
      if (job.isOver || job.pendingRows > 0) continue
      try {
        job.advance(logits.subarray((row - 1) * vocabSize, row * vocabSize))
        this.#counts.tokens++
        if (job.isOver) this.#counts.finished++
      } catch (error) {
        this.#fail(job, error)
      }
    }
    this.#counts.rows += row
  }

  #fail(job: Job, error: unknown): void {
    if (job.isOver) return
    this.#counts.failed++
    job.fail(error)
  }
}
