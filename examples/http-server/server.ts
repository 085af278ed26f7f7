/** An inference server around the MoE layers of a model: its routes, its limits, and its orderly end. */

import type { AddressInfo } from 'node:net'
import { setImmediate as nextTurn } from 'node:timers/promises'
import { type FastifyInstance, type FastifyServerOptions, fastify } from 'fastify'
import type { MoeModel } from 'sparse-experts'
import { answerErrors } from './error-answers.js'
import { forwardRoute } from './forward-route.js'
import { HeldBytes } from './held-bytes.js'
import { serveLoad } from './load.js'
import { serveMetrics } from './metrics.js'
import { traceCalls } from './tracing.js'

/** A running server. */
export interface MoeServer {
  /** The port it listens on. */
  readonly port: number
  readonly log: FastifyInstance['log']
  /** `/ready` answers 503 from now on, so that a load balancer sends nobody here; all else is served on. */
  drain(): void
  /** Stops accepting, lets accepted requests finish, then frees the layers. */
  close(): Promise<void>
}

export interface ServeOptions {
  /** @defaultValue '127.0.0.1' */
  host?: string
  /** @defaultValue 0, a free one */
  port?: number
  /** Bytes of a request's body. @defaultValue 64 MiB */
  maxBodyBytes?: number
  /** Bytes that all requests hold together: bodies that arrive, inputs, outputs. @defaultValue 512 MiB */
  maxHeldBytes?: number
  /** As Fastify takes it. @defaultValue false */
  logger?: FastifyServerOptions['logger']
}

/** From the first byte of a request to the last: a slow upload is ended. Fastify itself has no limit. */
const REQUEST_TIMEOUT_MS = 300_000

/** Serves the layers of `model`, which the server owns from now on. */
export async function serve(model: MoeModel, options: ServeOptions = {}): Promise<MoeServer> {
  const { host = '127.0.0.1', port = 0, maxBodyBytes = 64 * 2 ** 20, maxHeldBytes = 512 * 2 ** 20 } = options
  const held = new HeldBytes(maxHeldBytes)
  const app: FastifyInstance = fastify({
    logger: options.logger ?? false,
    requestTimeout: REQUEST_TIMEOUT_MS,
    routerOptions: { querystringParser: numbersOf },
    // A wrong request is refused, not repaired: "4" is no number, and an unknown field is not dropped.
    ajv: { customOptions: { coerceTypes: false, removeAdditional: false } },
  })
  app.removeAllContentTypeParsers()
  answerErrors(app, 'POST /forward, GET /, /load, /health, /ready and /metrics')
  serveMetrics(app, model, held)
  serveLoad(app, model)
  let draining = false
  serveHealth(app, model, () => draining)
  app.register(forwardRoute, { model, held, maxBodyBytes })
  const endTraces = traceCalls()
  app.addHook('onClose', async () => {
    await model[Symbol.asyncDispose]()
    endTraces()
  })
  app.addHook('onSend', async (_, reply) => {
    // A client that keeps its connection is to ask elsewhere next time.
    if (draining) reply.header('connection', 'close')
  })
  app.addHook('onResponse', async () => {
    // One whose answer had begun before that would hold up the end.
    if (!app.server.listening) void nextTurn().then(() => app.server.closeIdleConnections())
  })
  await app.listen({ host, port })
  const drain = () => {
    draining = true
  }
  const close = async () => {
    drain()
    await app.close()
  }
  return { port: (app.server.address() as AddressInfo).port, log: app.log, drain, close }
}

/** The parameters of an address; what looks like a number is one. */
function numbersOf(query: string): Record<string, string | number> {
  const parse = (text: string) => (text.trim() === '' || Number.isNaN(Number(text)) ? text : Number(text))
  return Object.fromEntries([...new URLSearchParams(query)].map(([name, text]) => [name, parse(text)]))
}

/** `/health`: does the device work? Restart the process where not. `/ready`: should requests be sent here? */
function serveHealth(app: FastifyInstance, model: MoeModel, isDraining: () => boolean): void {
  const { device, dtype } = model.layer(model.layers[0]!)
  app.get('/health', async (_, reply) => {
    const health = model.health()
    reply.code(health.status === 'ready' ? 200 : 503)
    return {
      status: health.status,
      ...{ device, dtype, layers: model.layers },
      ...(health.status === 'failed' && { cause: health.cause.message }),
    }
  })
  app.get('/ready', async (_, reply) => {
    const status = isDraining() ? 'draining' : model.health().status
    reply.code(status === 'ready' ? 200 : 503)
    return { status }
  })
}
