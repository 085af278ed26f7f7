/** Bodies of requests: read within limits, and turned into numbers without holding the event loop. */

import type { IncomingMessage } from 'node:http'
import type { HeldShare } from './held-bytes.js'
import { HttpError } from './http-error.js'
import type { Turns } from './turns.js'

/** Bytes that are copied between two looks at the clock. */
const PIECE_BYTES = 2 ** 20

/** Limits of one request. */
export interface BodyLimits {
  /** Bytes that it may have. */
  maxBytes: number
  share: HeldShare
  /** Bytes that a byte of it will hold in all until it is answered. */
  heldPerByte: number
}

/**
 * The chunks of a body.
 * @throws {@link HttpError} 413 BODY_TOO_LARGE, 503 OVERLOADED where all requests together would hold too much
 */
export async function readBody(request: IncomingMessage, limits: BodyLimits): Promise<Buffer[]> {
  const { maxBytes, share, heldPerByte } = limits
  const chunks: Buffer[] = []
  const tooLarge = new HttpError(
    413,
    'BODY_TOO_LARGE',
    `The body is larger than ${maxBytes} bytes: send fewer rows`,
  )
  if (Number(request.headers['content-length']) > maxBytes) throw tooLarge
  let size = 0
  // The refusal goes over the same connection: leaving the loop must not destroy it.
  for await (const chunk of request.iterator({ destroyOnReturn: false }) as AsyncIterable<Buffer>) {
    size += chunk.byteLength
    if (size > maxBytes) throw tooLarge
    if (!share.take(chunk.byteLength * heldPerByte)) {
      throw new HttpError(503, 'OVERLOADED', 'Other requests hold the memory of this server: try again later')
    }
    chunks.push(chunk)
  }
  return chunks
}

/** The chunks in one piece of memory of its own, which begins at an aligned address. Takes the chunks away. */
export async function joinChunks(chunks: Buffer[], turns: Turns): Promise<Buffer<ArrayBuffer>> {
  const joined = Buffer.from(new ArrayBuffer(chunks.reduce((sum, chunk) => sum + chunk.byteLength, 0)))
  let at = 0
  let looked = 0
  chunks.reverse()
  for (let chunk = chunks.pop(); chunk; chunk = chunks.pop()) {
    at += chunk.copy(joined, at)
    if (at - looked < PIECE_BYTES) continue
    looked = at
    if (turns.due) await turns.take()
  }
  return joined
}

/** Little-endian f32 values, in place. @throws {@link HttpError} 400 BAD_BODY */
export function floatsOf({ buffer, byteLength }: Buffer<ArrayBuffer>): Float32Array {
  if (byteLength % 4 !== 0) throw new HttpError(400, 'BAD_BODY', 'The body is not a sequence of f32 values')
  return new Float32Array(buffer)
}
