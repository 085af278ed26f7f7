/** An inference server around one MoE layer: binary or JSON in and out, a bounded queue, aborts on disconnect, health and metrics. */

import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import { type MoeArgumentError, MoeError, type MoeLayer } from 'sparse-experts'
import { renderMetrics } from './metrics.js'

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
}

const DEFAULT_BODY_BYTES = 64 * 2 ** 20
const BINARY = 'application/octet-stream'

/** A request that is answered with a status other than 500. */
class HttpError extends Error {
  constructor(
    readonly status: number,
    readonly code: string,
    message: string,
  ) {
    super(message)
  }
}

/** Serves `layer`, which the server owns from now on. */
export function serve(layer: MoeLayer, options: ServeOptions = {}): Promise<MoeServer> {
  const { host = '127.0.0.1', port = 0, maxBodyBytes = DEFAULT_BODY_BYTES } = options
  let closing = false
  const server = createServer((request, response) => {
    // A connection that is kept alive would hold up the end.
    response.once('close', () => closing && setImmediate(() => server.closeIdleConnections()))
    route(layer, request, response, maxBodyBytes).catch(error => sendError(response, error))
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

async function route(
  layer: MoeLayer,
  request: IncomingMessage,
  response: ServerResponse,
  limit: number,
): Promise<void> {
  const { method, url } = request
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
    response.end(renderMetrics(layer))
    return
  }
  if (method === 'POST' && url === '/forward') return forward(layer, request, response, limit)
  throw new HttpError(
    404,
    'NOT_FOUND',
    `No ${method} ${url}; there are POST /forward, GET /health and GET /metrics`,
  )
}

async function forward(
  layer: MoeLayer,
  request: IncomingMessage,
  response: ServerResponse,
  limit: number,
): Promise<void> {
  const abort = new AbortController()
  // 'close' also comes after a finished answer; aborting then changes nothing.
  response.once('close', () => abort.abort())
  const body = await readBody(request, limit)
  const binary = request.headers['content-type']?.startsWith(BINARY) ?? false
  const hiddenStates = binary ? floatsOf(body) : parseJson(body, layer.config.hiddenSize)
  const result = await layer.forward(hiddenStates, { signal: abort.signal })
  const { output, numTokens, topkIds, nonFiniteRows } = result
  if (binary) {
    response.writeHead(200, {
      'content-type': BINARY,
      'x-num-tokens': numTokens,
      'x-non-finite-rows': nonFiniteRows.length,
    })
    response.end(new Uint8Array(output.buffer, output.byteOffset, output.byteLength))
    return
  }
  const rows = <A extends Float32Array | Int32Array>(array: A, columns: number) =>
    Array.from({ length: numTokens }, (_, row) => [...array.subarray(row * columns, (row + 1) * columns)])
  sendJson(response, 200, {
    output: rows(output, layer.config.hiddenSize),
    topkIds: rows(topkIds, layer.config.topK),
    nonFiniteRows: [...nonFiniteRows],
  })
}

async function readBody(request: IncomingMessage, limit: number): Promise<Buffer> {
  const chunks: Buffer[] = []
  let size = 0
  for await (const chunk of request as AsyncIterable<Buffer>) {
    size += chunk.byteLength
    if (size > limit) throw new HttpError(413, 'BODY_TOO_LARGE', `The body is larger than ${limit} bytes`)
    chunks.push(chunk)
  }
  return Buffer.concat(chunks)
}

function floatsOf(body: Buffer): Float32Array {
  if (body.byteLength % 4 !== 0)
    throw new HttpError(400, 'BAD_BODY', 'The body is not a sequence of f32 values')
  // A copy into memory of its own: a pooled Buffer may begin at any byte.
  return new Float32Array(new Uint8Array(body).buffer)
}

function parseJson(body: Buffer, hiddenSize: number): Float32Array {
  let rows: unknown
  try {
    rows = JSON.parse(body.toString('utf8')).hiddenStates
  } catch {
    throw new HttpError(400, 'BAD_BODY', 'The body is not JSON')
  }
  const fits = (row: unknown) =>
    Array.isArray(row) && row.length === hiddenSize && row.every(value => typeof value === 'number')
  if (!Array.isArray(rows) || !rows.every(fits)) {
    throw new HttpError(400, 'BAD_BODY', `hiddenStates is not an array of rows of ${hiddenSize} numbers`)
  }
  return Float32Array.from(rows.flat())
}

function sendJson(
  response: ServerResponse,
  status: number,
  body: object,
  headers: Record<string, string> = {},
): void {
  response.writeHead(status, { 'content-type': 'application/json', ...headers })
  response.end(JSON.stringify(body))
}

function sendError(response: ServerResponse, error: unknown): void {
  // The client has gone: nobody reads an answer.
  if (response.destroyed || response.headersSent) {
    response.destroy()
    return
  }
  const { status, code } = statusOf(error)
  // The rest of a refused body is not read, so the connection cannot be used again.
  const headers = {
    ...(status === 503 && { 'retry-after': '1' }),
    ...(status === 413 && { connection: 'close' }),
  }
  sendJson(response, status, { error: { code, message: (error as Error).message } }, headers)
}

function statusOf(error: unknown): { status: number; code: string } {
  if (error instanceof HttpError) return error
  const { code } = error as Partial<MoeError & MoeArgumentError>
  if (code === 'ERR_MOE_QUEUE_FULL' || code === 'ERR_MOE_DISPOSED') return { status: 503, code }
  if (code && !(error instanceof MoeError)) return { status: 400, code }
  return { status: 500, code: code ?? 'INTERNAL' }
}
