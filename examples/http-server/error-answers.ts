/** Every error as an answer: `{ "error": { "code", "message" } }` with the status that its code stands for. */

import { Readable } from 'node:stream'
import { finished } from 'node:stream/promises'
import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify'
import type { MoeErrorCode } from 'sparse-experts'
import { HttpError } from './http-error.js'

/** What the library's codes are to a client. A code that is not here is a failure of the server: 500. */
const STATUS_OF_CODE: Partial<Record<string, number>> = {
  ERR_MOE_INVALID_ARG_TYPE: 400,
  ERR_MOE_INVALID_ARG_VALUE: 400,
  ERR_MOE_INVALID_ARG_SHAPE: 400,
  ERR_MOE_UNKNOWN_OPTION: 400,
  ERR_MOE_MISSING_INPUT: 400,
  // The client may come again: the queue holds as many rows as it may.
  ERR_MOE_QUEUE_FULL: 429,
  ERR_MOE_OUT_OF_MEMORY: 503,
  ERR_MOE_DISPOSED: 503,
  ERR_MOE_DEVICE_LOST: 503,
} satisfies Partial<Record<MoeErrorCode, number>>

/** With these a client is told to come again. */
const RETRY = new Set([429, 503])
const RETRY_AFTER_SECONDS = 1
/** What nginx counts requests under whose client went away before the answer. Nobody receives it. */
export const CLIENT_GONE = 499

/** Makes `app` answer errors, and requests that no route serves, in one form. */
export function answerErrors(app: FastifyInstance, routes: string): void {
  app.setErrorHandler((error, request, reply) => {
    if (reply.raw.destroyed) return reply.code(CLIENT_GONE).send()
    const { status, code } = statusOf(error)
    if (status !== 500) return sendError(request, reply, status, { code, message: (error as Error).message })
    // What nobody foresaw may say what is no client's business.
    request.log.error(error)
    return sendError(request, reply, status, { code, message: 'The server failed; its log says why' })
  })
  app.setNotFoundHandler(({ method, url }) => {
    throw new HttpError(404, 'NOT_FOUND', `No ${method} ${url}; there are ${routes}`)
  })
}

/** Of an error of the library by its code; Fastify's errors and this server's say theirs. */
function statusOf(error: unknown): { status: number; code: string } {
  const { code, statusCode = 500 } = error as { code?: unknown; statusCode?: number }
  if (typeof code !== 'string') return { status: statusCode, code: 'INTERNAL' }
  return { status: STATUS_OF_CODE[code] ?? statusCode, code }
}

function sendError(
  { raw }: FastifyRequest,
  reply: FastifyReply,
  status: number,
  error: { code: string; message: string },
): FastifyReply {
  const body = Buffer.from(JSON.stringify({ error }))
  if (RETRY.has(status)) reply.header('retry-after', RETRY_AFTER_SECONDS)
  reply.code(status).type('application/json')
  if (raw.complete) return reply.send(body)
  // A connection that is closed while the client still sends is reset, and the answer lost: the rest of a body is read and thrown away.
  async function* untilAllIsRead() {
    yield body
    await finished(raw.resume(), { writable: false }).catch(() => {})
  }
  return reply.header('content-length', body.byteLength).send(Readable.from(untilAllIsRead()))
}
