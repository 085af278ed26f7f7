/** The body of a request, of bounded size. */

import type { IncomingMessage } from 'node:http'
import { ApiError } from './api-error.js'

/** @throws {@link ApiError} 413 */
export async function readBody(request: IncomingMessage, maxBytes: number): Promise<Buffer> {
  const tooLarge = () =>
    new ApiError(413, 'body_too_large', `The body is larger than ${maxBytes} bytes: send a shorter prompt`)
  if (Number(request.headers['content-length']) > maxBytes) throw tooLarge()
  const chunks: Buffer[] = []
  let size = 0
  // The refusal goes over the same connection: leaving the loop must not destroy it.
  for await (const chunk of request.iterator({ destroyOnReturn: false }) as AsyncIterable<Buffer>) {
    size += chunk.byteLength
    if (size > maxBytes) throw tooLarge()
    chunks.push(chunk)
  }
  return Buffer.concat(chunks)
}
