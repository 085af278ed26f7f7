/** What the example server accepts and refuses, in bodies and addresses, and until when. */

import { readFileSync } from 'node:fs'
import path from 'node:path'
import { MoeLayer } from 'sparse-experts'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { serve } from '../../examples/http-server/server.js'
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

it('says that it takes no more requests before it stops, and serves them until then', async () => {
  const own = await serve(await MoeLayer.load(await tinyCheckpoint(), { device: 'reference' }))
  const status = async (name: string) =>
    (await fetch(`http://127.0.0.1:${own.port}${name}`, { headers: { connection: 'close' } })).status
  expect(await status('/ready')).toBe(200)
  own.drain()
  expect([await status('/ready'), await status('/health'), await status('/load')]).toEqual([503, 200, 200])
  await own.close()
  await expect(status('/health')).rejects.toThrow()
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
