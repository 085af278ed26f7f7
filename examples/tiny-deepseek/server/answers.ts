/** What becomes of a completion's text: server-sent events while it is written, or one JSON object at its end. */

import type { ServerResponse } from 'node:http'
import { toApiError } from './api-error.js'
import type { FinishReason, Listener, Usage } from './job.js'
import { type CompletionHead, completionObject, usageObject } from './openai-objects.js'
import { sendError, sendJson } from './send.js'
import type { UnreadBytes } from './unread-bytes.js'

/**
 * `data: {…}` for each piece of text, one with the reason of its end, one with the usage where that is asked for, `data: [DONE]`. The
 * status is sent with the first of them: what fails before has the status of an error, what fails later an event with it and no `[DONE]`.
 */
export class EventStream implements Listener {
  readonly #response: ServerResponse
  readonly #unread: UnreadBytes
  readonly #head: CompletionHead
  readonly #includeUsage: boolean

  constructor(response: ServerResponse, unread: UnreadBytes, head: CompletionHead, includeUsage: boolean) {
    this.#response = response
    this.#unread = unread
    this.#head = head
    this.#includeUsage = includeUsage
  }

  get isFull(): boolean {
    return this.#unread.isFull
  }

  text(text: string): void {
    this.#send(completionObject(this.#head, text, null))
  }

  end(reason: FinishReason, usage: Usage): void {
    this.#send(completionObject(this.#head, '', reason))
    if (this.#includeUsage) this.#send({ ...this.#head, choices: [], usage: usageObject(usage) })
    this.#event('[DONE]')
    this.#finish()
  }

  fail(error: unknown): void {
    if (this.#response.headersSent) {
      this.#send(toApiError(error))
      this.#finish()
    } else {
      sendError(this.#response, error)
      this.#unread.watch()
    }
  }

  #send(data: object): void {
    this.#event(JSON.stringify(data))
  }

  #event(data: string): void {
    if (!this.#response.headersSent) {
      this.#response.writeHead(200, {
        'content-type': 'text/event-stream; charset=utf-8',
        'cache-control': 'no-cache',
      })
    }
    this.#unread.write(`data: ${data}\n\n`)
  }

  #finish(): void {
    this.#response.end()
    this.#unread.watch()
  }
}

/** One `text_completion`. Its text is as long as `max_tokens` lets it be, so nothing has to pause. */
export class WholeAnswer implements Listener {
  readonly isFull = false
  readonly #response: ServerResponse
  readonly #unread: UnreadBytes
  readonly #head: CompletionHead
  #text = ''

  constructor(response: ServerResponse, unread: UnreadBytes, head: CompletionHead) {
    this.#response = response
    this.#unread = unread
    this.#head = head
  }

  text(text: string): void {
    this.#text += text
  }

  end(reason: FinishReason, usage: Usage): void {
    sendJson(this.#response, 200, {
      ...completionObject(this.#head, this.#text, reason),
      usage: usageObject(usage),
    })
    this.#unread.watch()
  }

  fail(error: unknown): void {
    sendError(this.#response, error)
    this.#unread.watch()
  }
}
