/** A completion server around the small model: routes, and an orderly end. */

import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import { setTimeout as delay } from 'node:timers/promises'
import type { Decoder } from '../decoder/decoder.js'
import { EventStream, WholeAnswer } from './answers.js'
import { ApiError } from './api-error.js'
import { readBody } from './body.js'
import { parseCompletionRequest } from './completion-request.js'
import { DEFAULT_LIMITS, type ServerLimits } from './limits.js'
import { renderMetrics } from './metrics.js'
import { modelList, newCompletionHead } from './openai-objects.js'
import { Scheduler, type SchedulerFigures } from './scheduler.js'
import { sendError, sendJson } from './send.js'
import { UnreadBytes } from './unread-bytes.js'

export interface CompletionServerOptions extends Partial<ServerLimits> {
  /** @defaultValue '127.0.0.1' */
  host?: string
  /** @defaultValue 0, a free one */
  port?: number
  /** The model's name in the API. @defaultValue 'tiny-deepseek' */
  model?: string
}

/** Time in which answers that were sent already leave idle connections, once nothing else runs. */
const LAST_ANSWERS_MS = 1000

export class CompletionServer {
  readonly #decoder: Decoder
  readonly #limits: ServerLimits
  readonly #model: string
  readonly #scheduler: Scheduler
  readonly #server: Server
  readonly #started = Math.floor(Date.now() / 1000)
  /** Accepted completions whose answers are not sent yet. */
  readonly #open = new Set<ServerResponse>()
  #closing: Promise<void> | undefined
  #onEmpty = () => {}

  private constructor(decoder: Decoder, model: string, limits: ServerLimits) {
    this.#decoder = decoder
    this.#model = model
    this.#limits = limits
    this.#scheduler = new Scheduler(decoder, limits)
    this.#server = createServer({ highWaterMark: limits.maxUnreadBytes }, (request, response) => {
      this.#route(request, response).catch(error => sendError(response, error))
    })
    this.#server.maxConnections = limits.maxConnections
  }

  /** Serves `decoder`, which the server owns from then on. */
  static async listen(decoder: Decoder, options: CompletionServerOptions = {}): Promise<CompletionServer> {
    const { host = '127.0.0.1', port = 0, model = 'tiny-deepseek', ...limits } = options
    const made = new CompletionServer(decoder, model, { ...DEFAULT_LIMITS, ...limits })
    await new Promise<void>((resolve, reject) => {
      made.#server.once('error', reject)
      made.#server.listen(port, host, resolve)
    })
    return made
  }

  /** The port it listens on. */
  get port(): number {
    return (this.#server.address() as AddressInfo).port
  }

  get figures(): SchedulerFigures {
    return this.#scheduler.figures
  }

  /** Takes no new completions, answers those that it has taken, then frees the model. New ones get 503 until the last has ended. */
  close(): Promise<void> {
    this.#closing ??= this.#drain()
    return this.#closing
  }

  async #drain(): Promise<void> {
    if (this.#open.size > 0) {
      await new Promise<void>(resolve => {
        this.#onEmpty = resolve
      })
    }
    const closed = new Promise(resolve => this.#server.close(resolve))
    this.#server.closeIdleConnections()
    // What is left has not sent its request, or does not read a refusal.
    const late = new AbortController()
    delay(LAST_ANSWERS_MS, undefined, { signal: late.signal }).then(
      () => this.#server.closeAllConnections(),
      () => {},
    )
    await closed
    late.abort()
    await this.#scheduler.idle()
    this.#decoder.dispose()
  }

  async #route(request: IncomingMessage, response: ServerResponse): Promise<void> {
    // A connection that is kept alive would hold up the end.
    if (this.#closing) response.setHeader('connection', 'close')
    const routes: Record<string, [method: string, handle: () => void | Promise<void>]> = {
      '/v1/completions': ['POST', () => this.#complete(request, response)],
      '/v1/models': ['GET', () => sendJson(response, 200, modelList(this.#model, this.#started))],
      '/healthz': ['GET', () => this.#sendHealth(response)],
      '/metrics': ['GET', () => this.#sendMetrics(response)],
    }
    const path = (request.url ?? '').split('?', 1)[0]!
    const route = Object.hasOwn(routes, path) ? routes[path] : undefined
    if (!route) {
      const message = `There is no ${path}; there are ${Object.keys(routes).join(', ')}`
      throw new ApiError(404, 'unknown_url', message)
    }
    const [method, handle] = route
    if (request.method !== method) {
      response.setHeader('allow', method)
      throw new ApiError(405, 'method_not_supported', `${path} takes ${method}, not ${request.method}`)
    }
    await handle()
  }

  #sendHealth(response: ServerResponse): void {
    const failed = this.#decoder.feedForwards
      .map(layer => layer.health())
      .find(({ status }) => status !== 'ready')
    const status = failed ? failed.status : this.#closing ? 'draining' : 'ready'
    const { device, dtype } = this.#decoder
    sendJson(response, status === 'ready' ? 200 : 503, { status, device, dtype })
  }

  #sendMetrics(response: ServerResponse): void {
    response.writeHead(200, { 'content-type': 'text/plain; version=0.0.4' })
    response.end(renderMetrics(this.#decoder, this.#scheduler))
  }

  async #complete(request: IncomingMessage, response: ServerResponse): Promise<void> {
    // Its answer would have no connection before the one ahead of it is sent, so that neither its end nor its slow reader could be seen.
    if (!response.socket) {
      const message =
        'Another completion runs on this connection: wait for its answer, or open a second connection'
      throw new ApiError(400, 'pipelined_request', message)
    }
    this.#refuseWhileClosing()
    const completion = parseCompletionRequest(
      await readBody(request, this.#limits.maxBodyBytes),
      this.#model,
      this.#limits,
    )
    this.#refuseWhileClosing()
    if (response.destroyed) return
    const unread = new UnreadBytes(response, this.#limits.readerTimeoutMs, () => this.#scheduler.wake())
    const head = newCompletionHead(this.#model)
    const job = this.#scheduler.submit(
      completion,
      completion.stream
        ? new EventStream(response, unread, head, completion.includeUsage)
        : new WholeAnswer(response, unread, head),
    )
    this.#open.add(response)
    response.once('close', () => {
      this.#scheduler.cancel(job)
      this.#open.delete(response)
      if (this.#open.size === 0) this.#onEmpty()
    })
  }

  #refuseWhileClosing(): void {
    if (!this.#closing) return
    throw new ApiError(503, 'shutting_down', 'This server is shutting down: ask another one')
  }
}
