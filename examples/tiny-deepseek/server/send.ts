/** Whole answers in JSON. */

import type { ServerResponse } from 'node:http'
import { toApiError } from './api-error.js'

export function sendJson(
  response: ServerResponse,
  status: number,
  body: object,
  headers: Record<string, string> = {},
): void {
  const bytes = Buffer.from(JSON.stringify(body))
  const { req: request } = response
  response.writeHead(status, {
    'content-type': 'application/json',
    'content-length': bytes.byteLength,
    ...headers,
  })
  response.write(bytes)
  // A connection that is closed while the client still sends is reset, and the answer lost: the rest of a body is read and thrown away.
  if (request.complete) response.end()
  else request.once('end', () => response.end()).resume()
}

/** Seconds after which a client may ask again: about what a completion takes. */
const RETRY_AFTER = '1'

export function sendError(response: ServerResponse, error: unknown): void {
  // The client has gone, or has part of another answer: there is no place for this one.
  if (response.destroyed || response.headersSent) {
    response.destroy()
    return
  }
  const answer = toApiError(error)
  const mayRetry = answer.status === 429 || answer.status === 503
  sendJson(response, answer.status, answer, mayRetry ? { 'retry-after': RETRY_AFTER } : {})
}
