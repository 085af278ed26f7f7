/** An inference server around one MoE layer: binary or JSON in and out, bounded queue and memory, aborts on disconnect, health and metrics. */

import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import { pipeline } from 'node:stream/promises'
import { type MoeArgumentError, MoeError, type MoeLayer } from 'sparse-experts'
import { floatsOf, joinChunks, readBody } from './bodies.js'
import { HeldBytes, type HeldShare } from './held-bytes.js'
import { HttpError } from './http-error.js'
import { parseRows, writeRows } from './json-rows.js'
import { renderMetrics } from './metrics.js'
import { Turns } from './turns.js'

/** A running server. */
export interface MoeServer {
  readonly server: Server
  /** The port it listens on. */
  readonly port: number
  /** Stops accepting, lets accepted requests finish, then frees the layer. */
  close(): Promise<void>
}

export interface ServeOptions {
  /** @defaultValue '127.0.0.1' */
  host?: string
  /** @defaultValue 0, a free one */
  port?: number
  /** Of a request. @defaultValue 64 MiB */
  maxBodyBytes?: number
  /** That all requests hold together: bodies that arrive, inputs, outputs. @defaultValue 512 MiB */
  maxHeldBytes?: number
}

const BINARY = 'application/octet-stream'
/**
 * Bytes that a byte of a body holds: its hidden states, the library's copy of them while the call waits, the output. In JSON a number may
 * take two bytes, and four in memory.
 */
const HELD_PER_BYTE = { binary: 3, json: 7 }
/** A client that takes nothing of its answer for so long is cut off: what it does not read is held. */
const READER_TIMEOUT_MS = 30_000

/** Serves `layer`, which the server owns from now on. */
export function serve(layer: MoeLayer, options: ServeOptions = {}): Promise<MoeServer> {
  const { host = '127.0.0.1', port = 0, maxBodyBytes = 64 * 2 ** 20, maxHeldBytes = 512 * 2 ** 20 } = options
  const held = new HeldBytes(maxHeldBytes)
  let closing = false
  const server = createServer((request, response) => {
    // A connection that is kept alive would hold up the end.
    response.once('close', () => closing && setImmediate(() => server.closeIdleConnections()))
    route({ layer, held, maxBodyBytes }, request, response).catch(error =>
      sendError(request, response, error),
    )
  })
  const close = async () => {
    closing = true
    await new Promise(resolve => server.close(resolve))
    await layer[Symbol.asyncDispose]()
  }
  return new Promise((resolve, reject) => {
    server.once('error', reject)
    server.listen(port, host, () => resolve({ server, port: (server.address() as AddressInfo).port, close }))
  })
}

interface Service {
  layer: MoeLayer
  held: HeldBytes
  maxBodyBytes: number
}

async function route(service: Service, request: IncomingMessage, response: ServerResponse): Promise<void> {
  const { method, url } = request
  const { layer, held } = service
  if (method === 'GET' && url === '/health') {
    const health = layer.health()
    const body = {
      status: health.status,
      device: layer.device,
      dtype: layer.dtype,
      ...(health.status === 'failed' && { cause: health.cause.message }),
    }
    return sendJson(response, health.status === 'ready' ? 200 : 503, body)
  }
  if (method === 'GET' && url === '/metrics') {
    response.writeHead(200, { 'content-type': 'text/plain; version=0.0.4' })
    response.end(renderMetrics(layer, held.current))
    return
  }
  if (method === 'POST' && url === '/forward') {
    const share = held.open()
    const gone = new Promise(resolve => response.once('close', resolve))
    try {
      await forward(service, share, request, response)
      // What the client has not yet read of its answer is held as well.
      await gone
    } finally {
      share.release()
    }
    return
  }
  throw new HttpError(
    404,
    'NOT_FOUND',
    `No ${method} ${url}; there are POST /forward, GET /health and GET /metrics`,
  )
}

async function forward(
  { layer, maxBodyBytes }: Service,
  share: HeldShare,
  request: IncomingMessage,
  response: ServerResponse,
): Promise<void> {
  const abort = new AbortController()
  const { signal } = abort
  // 'close' also comes after a finished answer; aborting then changes nothing.
  response.once('close', () => abort.abort())
  const { hiddenSize, topK } = layer.config
  const isBinary = request.headers['content-type']?.startsWith(BINARY) ?? false
  const turns = new Turns(signal)
  const heldPerByte = isBinary ? HELD_PER_BYTE.binary : HELD_PER_BYTE.json
  const chunks = await readBody(request, { maxBytes: maxBodyBytes, share, heldPerByte })
  const body = await joinChunks(chunks, turns)
  const hiddenStates = isBinary ? floatsOf(body) : await parseRows(body, hiddenSize, turns)
  const { output, numTokens, topkIds, nonFiniteRows } = await layer.forward(hiddenStates, { signal })
  response.setTimeout(READER_TIMEOUT_MS, () => response.destroy())
  if (isBinary) {
    const counts = { 'x-num-tokens': numTokens, 'x-non-finite-rows': nonFiniteRows.length }
    response.writeHead(200, { 'content-type': BINARY, ...counts })
    response.end(new Uint8Array(output.buffer, output.byteOffset, output.byteLength))
    return
  }
  response.writeHead(200, { 'content-type': 'application/json' })
  const tables = {
    output: { array: output, columns: hiddenSize },
    topkIds: { array: topkIds, columns: topK },
  }
  await pipeline(writeRows(tables, { nonFiniteRows }, turns), response)
}

function sendJson(response: ServerResponse, status: number, body: object): void {
  response.writeHead(status, { 'content-type': 'application/json' })
  response.end(JSON.stringify(body))
}

function sendError(request: IncomingMessage, response: ServerResponse, error: unknown): void {
  // The client has gone: nobody reads an answer.
  if (response.destroyed || response.headersSent) {
    response.destroy()
    return
  }
  const { status, code } = statusOf(error)
  const body = Buffer.from(JSON.stringify({ error: { code, message: (error as Error).message } }))
  response.writeHead(status, {
    'content-type': 'application/json',
    'content-length': body.byteLength,
    ...(status === 503 && { 'retry-after': '1' }),
  })
  response.write(body)
  // A connection that is closed while the client still sends is reset, and the answer lost: the rest of a body is read and thrown away.
  if (request.complete) response.end()
  else request.once('end', () => response.end()).resume()
}

const UNAVAILABLE = new Set(['ERR_MOE_QUEUE_FULL', 'ERR_MOE_OUT_OF_MEMORY', 'ERR_MOE_DISPOSED'])

function statusOf(error: unknown): { status: number; code: string } {
  if (error instanceof HttpError) return error
  const { code } = error as Partial<MoeError & MoeArgumentError>
  if (code && UNAVAILABLE.has(code)) return { status: 503, code }
  if (code && !(error instanceof MoeError)) return { status: 400, code }
  return { status: 500, code: code ?? 'INTERNAL' }
}
