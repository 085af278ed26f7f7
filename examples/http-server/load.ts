/** `GET /load?layer=N`, the load of a layer's experts in JSON, and `GET /?layer=N`, a page that draws it. */

import { createHash } from 'node:crypto'
import { readFileSync } from 'node:fs'
import path from 'node:path'
import type { FastifyInstance } from 'fastify'
import type { MoeLayer, MoeModel } from 'sparse-experts'
import { KEEP_EVERY_MS, LoadHistory, type RecentLoad } from './load-history.js'

const QUERY = {
  type: 'object',
  additionalProperties: false,
  properties: { layer: { type: 'integer', minimum: 0 } },
}

/** Adds both routes. */
export function serveLoad(app: FastifyInstance, model: MoeModel): void {
  const first = model.layers[0]!
  const histories = new Map(
    model.layers.map(index => [index, new LoadHistory(() => model.layer(index).stats())]),
  )
  const timer = setInterval(() => {
    for (const history of histories.values()) history.keep()
  }, KEEP_EVERY_MS).unref()
  app.addHook('onClose', async () => clearInterval(timer))

  const page = readFileSync(path.join(import.meta.dirname, 'load-page.html'), 'utf8')
  const policy = policyOf(page)
  app.get('/', async (_, reply) => {
    reply.type('text/html; charset=utf-8').header('content-security-policy', policy)
    return page
  })
  app.get<{ Querystring: { layer?: number } }>(
    '/load',
    { schema: { querystring: QUERY } },
    async (request, reply) => {
      const { layer = first } = request.query
      reply.header('cache-control', 'no-store')
      return { layers: model.layers, ...loadOf(model.layer(layer), histories.get(layer)!.recent()) }
    },
  )
}

/** What the layer has counted since it was made, and lately. */
function loadOf(layer: MoeLayer, recent: RecentLoad) {
  const { calls, rejectedCalls, batches, tokens, tokensPerExpert, queueDepth, queuedTokens } = layer.stats()
  const { family, numExperts, topK } = layer.config
  return {
    ...{ layer: layer.index, family, device: layer.device, numExperts, topK },
    ...{ calls, rejectedCalls, batches, tokens, queueDepth, queuedTokens },
    tokensPerExpert: [...tokensPerExpert],
    recent,
  }
}

/** The page runs the script and has the style that are in it, asks its own server, and does nothing else. */
function policyOf(page: string): string {
  const hash = (element: string) => {
    const text = new RegExp(`<${element}>(.*)</${element}>`, 's').exec(page)![1]!
    return `'sha256-${createHash('sha256').update(text).digest('base64')}'`
  }
  return `default-src 'none'; connect-src 'self'; img-src data:; script-src ${hash('script')}; style-src ${hash('style')}`
}
