/** What the example server accepts and refuses, in bodies and addresses, and until when. */

import { readFileSync } from 'node:fs'
import { Agent, request } from 'node:http'
import path from 'node:path'
import { MoeError, type MoeErrorCode, MoeModel } from 'sparse-experts'
import { afterAll, afterEach, beforeAll, describe, expect, it, vi } from 'vitest'
import { serve } from '../../examples/http-server/server.js'
import { Random } from '../cases/random.js'
import {
  CONFIG,
  HIDDEN,
  layerTensors,
  removeCheckpoints,
  writeCheckpoint,
} from '../helpers/checkpoint-tiny.js'
import { type ExampleServer, exampleRows, startExampleServer } from '../helpers/example-server.js'
import { repository } from '../helpers/run-program.js'
import { TINY, tinyCheckpoint } from '../helpers/scratch.js'

const { hiddenSize, topK } = TINY
const row = [...exampleRows(1)]
let server: ExampleServer
beforeAll(async () => {
  server = await startExampleServer()
})
afterAll(() => server.close())

describe('wrong requests', () => {
  it.each([
    ['an unknown field', { hiddenStates: [row], more: 1 }, 'FST_ERR_VALIDATION'],
    ['a text for a number', { hiddenStates: [row], topK: '2' }, 'FST_ERR_VALIDATION'],
    ['no integer', { hiddenStates: [row], topK: 1.5 }, 'FST_ERR_VALIDATION'],
    ['none', { hiddenStates: [row], topP: 0 }, 'FST_ERR_VALIDATION'],
    ['null', { hiddenStates: [row], topP: null }, 'FST_ERR_VALIDATION'],
    [
      'more experts than the layer selects',
      { hiddenStates: [row], topK: topK + 1 },
      'ERR_MOE_INVALID_ARG_VALUE',
    ],
    ['no rows', { topK: 2 }, 'BAD_BODY'],
  ])('are refused with 400 and a code: %s', async (_, body, code) => {
    const response = await server.json(body)
    expect(response.status).toBe(400)
    expect(await response.json()).toEqual({ error: { code, message: expect.stringMatching(/./) } })
  })

  it.each([
    ['?topK=x', 400, 'FST_ERR_VALIDATION'],
    ['?topK=-1', 400, 'FST_ERR_VALIDATION'],
    ['?topP=2', 400, 'FST_ERR_VALIDATION'],
    ['?more=2', 400, 'FST_ERR_VALIDATION'],
    ['?layer=x', 400, 'FST_ERR_VALIDATION'],
    ['?layer=7', 400, 'ERR_MOE_INVALID_ARG_VALUE'],
  ])('of an address as well: %s', async (query, status, code) => {
    const response = await server.binary(exampleRows(1), query)
    expect(response.status).toBe(status)
    expect(await response.json()).toMatchObject({ error: { code } })
  })

  it('are those of another type, and those without a body', async () => {
    const other = await server.ask('/forward', 'text/xml', '<rows/>')
    expect(other.status).toBe(415)
    expect(await other.json()).toMatchObject({ error: { code: 'FST_ERR_CTP_INVALID_MEDIA_TYPE' } })
    const none = await server.ask('/forward')
    expect(none.status).toBe(400)
    expect(await none.json()).toMatchObject({ error: { code: 'BAD_BODY' } })
  })
})

it('gives a request what it may spend, in a body or in the address', async () => {
  const idsOf = async (response: Response) => ((await response.json()) as { topkIds: number[][] }).topkIds
  const ask = (fields: object, query = '') => server.json({ hiddenStates: [row], ...fields }, query)
  const full = await idsOf(await ask({}))
  expect(full[0]!.every(id => id >= 0)).toBe(true)
  const fewer = await idsOf(await ask({ topK: 2 }))
  expect(fewer[0]!.filter(id => id >= 0)).toEqual(full[0]!.slice(0, 2))
  expect(await idsOf(await ask({}, '?topK=2'))).toEqual(fewer)
  const outputs = await Promise.all(
    ['?topK=2', ''].map(
      async query => new Float32Array(await (await server.binary(exampleRows(1), query)).arrayBuffer()),
    ),
  )
  expect(outputs[0]).not.toEqual(outputs[1])
  expect(outputs[0]).toHaveLength(hiddenSize)
})

describe('what fails', () => {
  afterEach(() => {
    vi.restoreAllMocks()
  })

  it.each<[status: number, code: MoeErrorCode, retryAfter: string | null]>([
    [429, 'ERR_MOE_QUEUE_FULL', '1'],
    [503, 'ERR_MOE_OUT_OF_MEMORY', '1'],
    [503, 'ERR_MOE_DISPOSED', '1'],
    [503, 'ERR_MOE_DEVICE_LOST', '1'],
    [400, 'ERR_MOE_MISSING_INPUT', null],
  ])('is answered with status %d where the layer says %s', async (status, code, retryAfter) => {
    vi.spyOn(server.layer, 'forward').mockRejectedValue(new MoeError(code, 'why'))
    const response = await server.binary(exampleRows(1))
    expect(response.status).toBe(status)
    expect(response.headers.get('retry-after')).toBe(retryAfter)
    expect(await response.json()).toEqual({ error: { code, message: 'why' } })
  })

  it.each([
    [new MoeError('ERR_MOE_INTERNAL', 'secret'), 'ERR_MOE_INTERNAL'],
    [new Error('secret'), 'INTERNAL'],
  ])('unforeseen is in the log, not in the answer: %s', async (error, code) => {
    vi.spyOn(server.layer, 'forward').mockRejectedValue(error)
    const response = await server.binary(exampleRows(1))
    expect(response.status).toBe(500)
    const text = await response.text()
    expect(JSON.parse(text)).toMatchObject({ error: { code } })
    expect(text).not.toContain('secret')
  })

  it('for good takes the server out and says why', async () => {
    const cause = new MoeError('ERR_MOE_DEVICE_LOST', 'the GPU fell off the bus')
    vi.spyOn(server.layer, 'health').mockReturnValue({ status: 'failed', cause })
    const health = await server.ask('/health')
    expect(health.status).toBe(503)
    expect(await health.json()).toMatchObject({ status: 'failed', cause: cause.message })
    const ready = await server.ask('/ready')
    expect(ready.status).toBe(503)
    expect(await ready.json()).toEqual({ status: 'failed' })
    expect(await server.text('/metrics')).toContain(
      'sparse_experts_device_healthy{device="reference",layer="1"} 0',
    )
  })
})

it('serves each layer of a model', async () => {
  const directory = await writeCheckpoint({ ...CONFIG, num_nextn_predict_layers: 0 }, [
    layerTensors(1),
    layerTensors(2),
  ])
  const model = await MoeModel.load(directory, { device: 'reference' })
  const own = await serve(model)
  try {
    const url = `http://127.0.0.1:${own.port}`
    const hidden = new Random(3).normals(2 * HIDDEN)
    const body = JSON.stringify({ hiddenStates: [[...hidden.slice(0, HIDDEN)], [...hidden.slice(HIDDEN)]] })
    for (const [query, index] of [
      ['?layer=2', 2],
      ['', 1],
    ] as const) {
      const headers = { 'content-type': 'application/json', connection: 'close' }
      const answer = await fetch(`${url}/forward${query}`, { method: 'POST', headers, body })
      const { output, topkIds } = (await answer.json()) as Record<'output' | 'topkIds', number[][]>
      const expected = await model.forward(index, hidden)
      expect(Float32Array.from(output.flat())).toEqual(expected.output)
      expect(topkIds.flat()).toEqual([...expected.topkIds])
      const load = (await (await fetch(`${url}/load${query}`)).json()) as object
      expect(load).toMatchObject({ layers: [1, 2], layer: index, tokens: 4 })
    }
    const metrics = await (await fetch(`${url}/metrics`)).text()
    for (const layer of model.layers)
      expect(metrics).toContain(`sparse_experts_tokens_total{device="reference",layer="${layer}"} 4`)
    expect((await fetch(`${url}/load?layer=0`)).status).toBe(400)
    expect(await (await fetch(`${url}/health`)).json()).toMatchObject({ layers: [1, 2] })
  } finally {
    await own.close()
    removeCheckpoints()
  }
})

it('says that it takes no more requests before it stops, and serves them until then', async () => {
  const own = await serve(await MoeModel.load(await tinyCheckpoint(), { device: 'reference' }))
  const status = async (name: string) =>
    (await fetch(`http://127.0.0.1:${own.port}${name}`, { headers: { connection: 'close' } })).status
  const connection = async () => {
    const response = await fetch(`http://127.0.0.1:${own.port}/load`)
    await response.text()
    return response.headers.get('connection')
  }
  expect([await status('/ready'), await connection()]).toEqual([200, 'keep-alive'])
  own.drain()
  expect(await connection()).toBe('close')
  expect([await status('/ready'), await status('/health'), await status('/load')]).toEqual([503, 200, 200])
  await own.close()
  await expect(status('/health')).rejects.toThrow()
})

it('ends although a client keeps its connection', async () => {
  const model = await MoeModel.load(await tinyCheckpoint(), { device: 'reference' })
  const own = await serve(model)
  const agent = new Agent({ keepAlive: true })
  const answered = new Promise<number | undefined>((resolve, reject) => {
    const headers = { 'content-type': 'application/octet-stream' }
    const call = request({ agent, headers, method: 'POST', path: '/forward', port: own.port })
    call.on('error', reject).on('response', response => {
      response.resume().on('end', () => resolve(response.statusCode))
    })
    call.end(new Uint8Array(exampleRows(1024).buffer))
  })
  await vi.waitFor(() => expect(model.stats().queueDepth).toBe(1), { timeout: 60_000, interval: 1 })
  const closed = own.close()
  expect(await answered).toBe(200)
  const since = performance.now()
  await closed
  // The connection, which is idle now, would have been kept for 72 seconds.
  expect(performance.now() - since).toBeLessThan(60_000)
  agent.destroy()
})

it('names in its own package.json the versions that it is tested with', () => {
  const manifest = (folder: string) =>
    JSON.parse(readFileSync(path.join(repository, folder, 'package.json'), 'utf8')) as {
      version: string
      engines: object
      dependencies: Record<string, string>
      devDependencies: Record<string, string>
    }
  const own = manifest('examples/http-server')
  const { version, engines, devDependencies } = manifest('.')
  expect(own.engines).toEqual(engines)
  for (const [name, range] of Object.entries(own.dependencies))
    expect(range, name).toBe(name === 'sparse-experts' ? `^${version}` : devDependencies[name])
})
