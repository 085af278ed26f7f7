/** One completion on its way: its text in the model, and who hears of it. */

import { Continuation } from '../decoder/continuation.js'
import type { Decoder, SequencePart } from '../decoder/decoder.js'
import { TextStream } from '../decoder/text.js'
import type { CompletionRequest } from './completion-request.js'
import { StopStrings } from './stop-strings.js'

/** A stop was written, or there are as many tokens as were asked for. */
export type FinishReason = 'stop' | 'length'

export interface Usage {
  promptTokens: number
  completionTokens: number
}

/** Who asked. `end` or `fail` comes once and last. */
export interface Listener {
  /** Holds as much as it may: no step takes the completion along until `Scheduler.wake()`. */
  readonly isFull: boolean
  /** At least one character. */
  text(text: string): void
  end(reason: FinishReason, usage: Usage): void
  fail(error: unknown): void
}

export class Job {
  readonly #listener: Listener
  readonly #continuation: Continuation
  readonly #characters = new TextStream()
  readonly #stops: StopStrings
  readonly #maxTokens: number
  readonly #promptTokens: number
  #completionTokens = 0
  #isOver = false

  constructor(decoder: Decoder, request: CompletionRequest, listener: Listener) {
    const { prompt, maxTokens, temperature, topP, seed, stop } = request
    this.#listener = listener
    this.#continuation = new Continuation(decoder, prompt, { temperature, topP }, seed)
    this.#stops = new StopStrings(stop)
    this.#maxTokens = maxTokens
    this.#promptTokens = prompt.length
  }

  /** Whether it has ended, failed or been cancelled. */
  get isOver(): boolean {
    return this.#isOver
  }

  get isPaused(): boolean {
    return this.#listener.isFull
  }

  /** Rows that the model has yet to read: 1 while it writes, more of a prompt, 0 where it waits for `advance`. */
  get pendingRows(): number {
    return this.#continuation.pendingTokens
  }

  take(maxRows: number): SequencePart {
    return this.#continuation.take(maxRows)
  }

  /** Writes the next token. @param logits `[vocabSize]` behind all that was read */
  advance(logits: Float32Array): void {
    const token = this.#continuation.draw(logits)
    this.#completionTokens++
    const isLast = this.#completionTokens === this.#maxTokens
    const characters = this.#characters.push(token) + (isLast ? this.#characters.end() : '')
    const { text, isStopped } = this.#stops.push(characters)
    const shown = isLast && !isStopped ? text + this.#stops.end() : text
    if (shown !== '') this.#listener.text(shown)
    if (!isStopped && !isLast) return
    this.#isOver = true
    this.#listener.end(isStopped ? 'stop' : 'length', {
      promptTokens: this.#promptTokens,
      completionTokens: this.#completionTokens,
    })
  }

  fail(error: unknown): void {
    if (this.#isOver) return
    this.#isOver = true
    this.#listener.fail(error)
  }

  /** Nobody listens any more. */
  cancel(): void {
    this.#isOver = true
  }
}
