/**
 * The server that the benchmark asks: a POST of one row of f32 values is answered with its output. Usage: serve-rows.ts SHAPE DTYPE MODE.
 * Prints its port; `GET /stats` gives rows and batches.
 */

import { createServer, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import { type DType, MoeLayer } from '../harness/package.js'
import { shapeNamed } from '../harness/shapes.js'
import { makeBenchWeights } from '../harness/weights.js'
import type { Mode } from './modes.js'
import { batchRows } from './row-batcher.js'

const MAX_ROWS = 256

const [shapeName, dtype, mode] = process.argv.slice(2) as [string, DType, Mode]
const { config, weights } = makeBenchWeights(shapeNamed(shapeName)!, dtype)
const layer = MoeLayer.create(config, weights, {
  ...{ device: 'cpu', dtype },
  ...{ coalesce: mode === 'as one', maxCoalescedTokens: MAX_ROWS },
})
const forward =
  mode === 'batched by the server'
    ? batchRows(layer, MAX_ROWS)
    : async (row: Float32Array) => (await layer.forward(row)).output

async function answer(body: Buffer, response: ServerResponse): Promise<void> {
  const bytes = new Uint8Array(body)
  const output = await forward(new Float32Array(bytes.buffer, 0, bytes.byteLength / 4))
  response.end(Buffer.from(output.buffer, output.byteOffset, output.byteLength))
}

const server = createServer((request, response) => {
  if (request.url === '/stats') {
    const { tokens, batches } = layer.stats()
    response.end(JSON.stringify({ tokens, batches }))
    return
  }
  const chunks: Buffer[] = []
  request.on('data', chunk => chunks.push(chunk))
  request.on('end', () => {
    answer(Buffer.concat(chunks), response).catch(error => {
      response.statusCode = 500
      response.end(String(error))
    })
  })
})
server.listen(0, '127.0.0.1', () => console.log((server.address() as AddressInfo).port))
