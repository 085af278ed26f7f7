/** `GET /metrics`: a registry of the layers' figures, and of what the server itself does and holds. */

import type { FastifyInstance } from 'fastify'
import { Gauge, Histogram, Registry } from 'prom-client'
import type { MoeModel } from 'sparse-experts'
import { CLIENT_GONE } from './error-answers.js'
import type { HeldBytes } from './held-bytes.js'
import { registerModel } from './layer-metrics.js'

/** Seconds; an answer from a small layer takes milliseconds, a large prompt on a CPU tens of seconds. */
const BUCKETS = [0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1, 3, 10, 30, 100]

/** Adds the route, and counts every request of `app`. */
export function serveMetrics(app: FastifyInstance, model: MoeModel, held: HeldBytes): void {
  const registry = new Registry()
  const close = registerModel(registry, model)
  app.addHook('onClose', async () => close())
  new Gauge({
    name: 'http_held_bytes',
    help: 'Bodies, inputs and outputs of requests that are not answered',
    registers: [registry],
    collect() {
      this.set(held.current)
    },
  })
  const duration = new Histogram({
    name: 'http_request_duration_seconds',
    help: 'From the request to the last byte of its answer, or to the end of its connection (499)',
    labelNames: ['method', 'handler', 'status'],
    buckets: BUCKETS,
    registers: [registry],
  })
  app.addHook('onRequest', async (request, reply) => {
    const end = duration.startTimer()
    reply.raw.once('close', () => {
      // The route's pattern, not the address: a client could make up any number of addresses.
      const { method, routeOptions } = request
      const status = reply.raw.writableFinished ? reply.statusCode : CLIENT_GONE
      end({ method, handler: routeOptions.url ?? 'none', status })
    })
  })
  app.get('/metrics', async (_, reply) => {
    reply.type(registry.contentType)
    return registry.metrics()
  })
}
