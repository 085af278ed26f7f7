/** `POST /forward?layer=N`: hidden states in, a layer's output out, as little-endian f32 or as JSON. */

import type { IncomingMessage } from 'node:http'
import { Readable } from 'node:stream'
import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify'
import type { ForwardResult, MoeLayer, MoeModel } from 'sparse-experts'
import { floatsOf, joinChunks, readBody } from './bodies.js'
import type { HeldBytes, HeldShare } from './held-bytes.js'
import { HttpError } from './http-error.js'
import { type ParsedBody, parseRows, writeRows } from './json-rows.js'
import { Turns } from './turns.js'

export interface ForwardRouteOptions {
  model: MoeModel
  held: HeldBytes
  /** Of a request. */
  maxBodyBytes: number
}

/** What a request is from its first byte to the end of its connection or its answer. */
interface Call {
  /** Fires when the client has gone. */
  signal: AbortSignal
  share: HeldShare
  turns: Turns
}

declare module 'fastify' {
  interface FastifyRequest {
    /** Of `POST /forward`; null elsewhere. */
    call: Call | null
  }
}

/** What a request may spend: beside the rows of a JSON body, or in the address. */
interface Budget {
  topK?: number
  topP?: number
}

interface ForwardRequest {
  Querystring: Budget & { layer?: number }
  Body: (ParsedBody & Budget) | undefined
}

const BINARY = 'application/octet-stream'
const JSON_TYPE = 'application/json'
/**
 * Bytes that a byte of a body holds: its hidden states, the library's copy of them while the call waits, the output. In JSON a number may
 * take two bytes, and four in memory.
 */
const HELD_PER_BYTE = { binary: 3, json: 7 }
/** A client that takes nothing of its answer for so long is cut off: what it does not read is held. */
const READER_TIMEOUT_MS = 30_000

const BUDGET = {
  topK: { type: 'integer', minimum: 0 },
  topP: { type: 'number', exclusiveMinimum: 0, maximum: 1 },
}
const SCHEMA = {
  querystring: {
    ...{ type: 'object', additionalProperties: false },
    properties: { ...BUDGET, layer: { type: 'integer', minimum: 0 } },
  },
  body: {
    content: {
      [JSON_TYPE]: {
        schema: {
          type: 'object',
          required: ['hiddenStates'],
          additionalProperties: false,
          // The rows were checked one by one while they were parsed.
          properties: { hiddenStates: {}, ...BUDGET },
        },
      },
    },
  },
}

/** Adds the route, and the parsers of its bodies, which are this plugin's own. */
export async function forwardRoute(app: FastifyInstance, options: ForwardRouteOptions): Promise<void> {
  const { model, held, maxBodyBytes } = options
  const first = model.layers[0]!
  // The rows of one model are equally wide in all its layers.
  const { hiddenSize } = model.layer(first).config

  app.decorateRequest('call', null)
  app.addHook('onRequest', async (request, reply) => {
    request.call = openCall(held, reply)
  })
  app.addContentTypeParser(BINARY, async ({ call }: FastifyRequest, payload: IncomingMessage) => {
    const { share, turns } = call!
    const limits = { maxBytes: maxBodyBytes, share, heldPerByte: HELD_PER_BYTE.binary }
    return { hiddenStates: floatsOf(await joinChunks(await readBody(payload, limits), turns)) }
  })
  app.addContentTypeParser(JSON_TYPE, async ({ call }: FastifyRequest, payload: IncomingMessage) => {
    const { share, turns } = call!
    const limits = { maxBytes: maxBodyBytes, share, heldPerByte: HELD_PER_BYTE.json }
    return parseRows(await joinChunks(await readBody(payload, limits), turns), hiddenSize, turns)
  })

  app.post<ForwardRequest>('/forward', { schema: SCHEMA }, async (request, reply) => {
    if (!request.body)
      throw new HttpError(400, 'BAD_BODY', `There is no body; send ${BINARY} or ${JSON_TYPE}`)
    const { signal, turns } = request.call!
    const { hiddenStates, ...budget } = request.body
    const { layer: index = first, ...asked } = request.query
    const layer = model.layer(index)
    const result = await layer.forward(hiddenStates, { ...asked, ...budget, signal })
    reply.raw.setTimeout(READER_TIMEOUT_MS, () => reply.raw.destroy())
    const isBinary = request.headers['content-type']!.startsWith(BINARY)
    return isBinary ? sendBinary(reply, result) : sendRows(reply, result, layer, turns)
  })
}

/** Ends with the response: what the client has not yet read of its answer is held as well. */
function openCall(held: HeldBytes, { raw }: FastifyReply): Call {
  const share = held.open()
  const abort = new AbortController()
  // 'close' also comes after a finished answer; aborting then changes nothing.
  raw.once('close', () => {
    abort.abort()
    share.release()
  })
  return { signal: abort.signal, share, turns: new Turns(abort.signal) }
}

function sendBinary(reply: FastifyReply, result: ForwardResult<Float32Array>): FastifyReply {
  const { output, numTokens, nonFiniteRows } = result
  reply.type(BINARY).header('x-num-tokens', numTokens).header('x-non-finite-rows', nonFiniteRows.length)
  return reply.send(Buffer.from(output.buffer, output.byteOffset, output.byteLength))
}

function sendRows(
  reply: FastifyReply,
  { output, topkIds, nonFiniteRows }: ForwardResult<Float32Array>,
  { config: { hiddenSize, topK } }: MoeLayer,
  turns: Turns,
): FastifyReply {
  const tables = {
    output: { array: output, columns: hiddenSize },
    topkIds: { array: topkIds, columns: topK },
  }
  return reply.type(JSON_TYPE).send(Readable.from(writeRows(tables, { nonFiniteRows }, turns)))
}
