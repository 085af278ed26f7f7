import type { ChildProcess } from 'node:child_process'
import { request } from 'node:http'
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest'
import { MoeLayer } from '../../lib/api/moe-layer.js'
import { randomHiddenStates } from '../../lib/cli/hidden-states.js'
import { ERROR_BOUNDS, relativeError } from '../../lib/devices/accuracy.js'
import { finished, startProgram } from '../helpers/run-program.js'
import { removeDirectories, TINY, tinyCheckpoint } from '../helpers/scratch.js'

const MAX_QUEUED = 64
const MAX_HELD_MIB = 200
/** Tokens that take the reference many seconds: their call is met while it runs, and never runs to its end. */
const LONG = 32_768
const WAIT = { timeout: 60_000, interval: 1 }
const { hiddenSize, topK } = TINY

let checkpoint: string
let server: ChildProcess
let url: string

async function start(): Promise<void> {
  const limits = ['--max-queued-tokens', String(MAX_QUEUED), '--max-held-mib', String(MAX_HELD_MIB)]
  const options = ['--port', '0', '--device', 'reference', '--drain-seconds', '0', ...limits]
  server = startProgram('examples/http-server/main.ts', [checkpoint, ...options])
  url = await new Promise((resolve, reject) => {
    server.stdout!.on('data', text => {
      const found = /http:\S+/.exec(String(text))
      if (found) resolve(found[0])
    })
    server.once('exit', status => reject(new Error(`The server ended with status ${status}`)))
  })
}

beforeAll(async () => {
  checkpoint = await tinyCheckpoint()
  await start()
})
afterAll(async () => {
  server.kill('SIGKILL')
  await removeDirectories()
})

/** Each request has a connection of its own: a kept one may be closed by the server just when the next request takes it. */
const ask = (path: string, type = '', body?: string | Uint8Array<ArrayBuffer> | Float32Array<ArrayBuffer>) =>
  fetch(url + path, {
    method: body === undefined ? 'GET' : 'POST',
    headers: { connection: 'close', ...(type && { 'content-type': type }) },
    body,
  })
const binary = (states: Float32Array<ArrayBuffer>) => ask('/forward', 'application/octet-stream', states)
const json = (body: string) => ask('/forward', 'application/json', body)

/** Of a body of so many MiB, one chunk again and again. */
function statusOfLarge(mebibytes: number): Promise<number | undefined> {
  return new Promise((resolve, reject) => {
    const headers = { connection: 'close', 'content-type': 'application/octet-stream' }
    const call = request(`${url}/forward`, { method: 'POST', headers })
    call.on('response', response => {
      resolve(response.statusCode)
      response.resume()
    })
    call.on('error', reject)
    const chunk = Buffer.alloc(2 ** 20)
    for (let i = 0; i < mebibytes; i++) call.write(chunk)
    call.end()
  })
}

/** Begins an upload of so many MiB of a longer body, and leaves it there. */
function stalledUpload(mebibytes: number) {
  const call = request(`${url}/forward`, {
    method: 'POST',
    headers: { 'content-type': 'application/octet-stream', 'content-length': 60 * 2 ** 20 },
  })
  call.on('error', () => {})
  call.write(Buffer.alloc(mebibytes * 2 ** 20))
  return call
}

interface Body {
  error: { code: string }
  output: number[][]
  topkIds: number[][]
  nonFiniteRows: number[]
}
const bodyOf = async (response: Response) => (await response.json()) as Body

async function metric(name: string): Promise<number> {
  const text = await (await ask('/metrics')).text()
  return Number(new RegExp(`^${name}(?:\\{.*\\})? (\\S+)$`, 'm').exec(text)?.[1])
}

describe('http-server', () => {
  it('answers what the layer answers, in both forms', async () => {
    const states = randomHiddenStates(3, hiddenSize, 1)
    const layer = await MoeLayer.load(checkpoint, { device: 'reference' })
    const expected = await layer.forward(states)
    layer.dispose()
    const response = await binary(states)
    expect(response.status).toBe(200)
    expect(response.headers.get('x-num-tokens')).toBe('3')
    expect(
      relativeError(new Float32Array(await response.arrayBuffer()), expected.output),
    ).toBeLessThanOrEqual(ERROR_BOUNDS.bf16)

    const rows = Array.from({ length: 3 }, (_, row) => [
      ...states.subarray(row * hiddenSize, (row + 1) * hiddenSize),
    ])
    const parsed = await bodyOf(await json(JSON.stringify({ hiddenStates: rows })))
    expect(relativeError(parsed.output.flat(), expected.output)).toBeLessThanOrEqual(ERROR_BOUNDS.bf16)
    expect(parsed.topkIds.flat()).toEqual([...expected.topkIds])
    expect(parsed.topkIds[0]).toHaveLength(topK)
    expect(parsed.nonFiniteRows).toEqual([])
  })

  it('refuses wrong requests with their code', async () => {
    const short = await binary(new Float32Array(5))
    expect(short.status).toBe(400)
    expect((await bodyOf(short)).error.code).toBe('ERR_MOE_INVALID_ARG_SHAPE')
    expect((await json('{"hiddenStates":[[1,2]]}')).status).toBe(400)
    expect((await json('nonsense')).status).toBe(400)
    expect((await ask('/nothing')).status).toBe(404)
    expect(await statusOfLarge(65)).toBe(413)
  })

  it('sheds load with 429 when its queue is full, stays healthy, and recovers', async () => {
    const batch = () => binary(randomHiddenStates(MAX_QUEUED / 2, hiddenSize, 2))
    const burst = Array.from({ length: 12 }, batch)
    const health = await ask('/health')
    expect(await health.json()).toMatchObject({ status: 'ready', device: 'reference' })
    const statuses = await Promise.all(burst.map(async response => (await response).status))
    expect(new Set(statuses)).toEqual(new Set([200, 429]))
    const refused = (await Promise.all(burst)).find(response => response.status === 429)!
    expect(refused.headers.get('retry-after')).toBe('1')
    expect((await bodyOf(refused)).error.code).toBe('ERR_MOE_QUEUE_FULL')
    expect(await metric('sparse_experts_request_rejected_total')).toBe(
      statuses.filter(status => status === 429).length,
    )
    expect((await batch()).status).toBe(200)
    expect(await metric('sparse_experts_tokens_total')).toBeGreaterThanOrEqual(MAX_QUEUED)
  })

  it('bounds what all connections hold together', async () => {
    expect(await metric('http_held_bytes')).toBe(0)
    const [numUploads, size] = [4, 16]
    const uploads = Array.from({ length: numUploads }, () => stalledUpload(size))
    // Each byte counts with its copies.
    const held = 3 * numUploads * size * 2 ** 20
    await vi.waitFor(async () => expect(await metric('http_held_bytes')).toBe(held), WAIT)
    const refused = await binary(new Float32Array((MAX_HELD_MIB * 2 ** 20 - held) / 3 + hiddenSize))
    expect(refused.status).toBe(503)
    expect(refused.headers.get('retry-after')).toBe('1')
    expect((await bodyOf(refused)).error.code).toBe('OVERLOADED')
    expect((await ask('/health')).status).toBe(200)
    for (const upload of uploads) upload.destroy()
    await vi.waitFor(async () => expect(await metric('http_held_bytes')).toBe(0), WAIT)
    expect((await binary(new Float32Array(hiddenSize))).status).toBe(200)
  })

  it('answers /health again and again while it parses a large body', async () => {
    const row = `[${Array(hiddenSize).fill('-0.5').join()}]`
    const numRows = Math.floor((16 * 2 ** 20) / (row.length + 1))
    const body = `{"hiddenStates":[${Array(numRows).fill(row).join()},[]]}`
    // Again where the parser was done before this process, which may have to wait for a core, had asked.
    await vi.waitFor(async () => {
      let status = 0
      let numHealthy = 0
      const call = request(`${url}/forward`, {
        method: 'POST',
        headers: { connection: 'close', 'content-type': 'application/json' },
      })
      const answered = new Promise<void>(resolve => {
        call.on('error', () => {
          status = -1
          resolve()
        })
        call.on('response', response => {
          status = response.statusCode ?? 0
          response.resume().on('end', resolve)
        })
      })
      await new Promise(resolve => call.end(body, () => resolve(undefined)))
      while (status === 0) {
        expect((await ask('/health')).status).toBe(200)
        if (status === 0) numHealthy++
      }
      await answered
      expect(status).toBe(400)
      expect(numHealthy).toBeGreaterThanOrEqual(5)
    }, WAIT)
  })

  it('aborts the call of a client that goes away', async () => {
    const gone = 'http_request_duration_seconds_count{method="POST",handler="/forward",status="499"} '
    const numGone = async () =>
      Number((await (await ask('/metrics')).text()).split(gone)[1]?.split('\n')[0] ?? 0)
    const goneBefore = await numGone()
    const before = await metric('sparse_experts_request_failure_total')
    const states = randomHiddenStates(LONG, hiddenSize, 3)
    const call = request(`${url}/forward`, {
      method: 'POST',
      headers: { 'content-type': 'application/octet-stream' },
    })
    call.on('error', () => {})
    call.end(new Uint8Array(states.buffer))
    await vi.waitFor(async () => expect(await metric('sparse_experts_num_requests')).toBe(1), WAIT)
    call.destroy()
    await vi.waitFor(
      async () => expect(await metric('sparse_experts_request_failure_total')).toBe(before + 1),
      WAIT,
    )
    expect(await metric('sparse_experts_num_requests')).toBe(0)
    expect(await numGone()).toBe(goneBefore + 1)
  })

  it('finishes what it accepted when it is told to stop', async () => {
    const answer = binary(randomHiddenStates(MAX_QUEUED * 16, hiddenSize, 4))
    await vi.waitFor(async () => expect(await metric('sparse_experts_num_requests')).toBe(1), WAIT)
    const end = finished(server)
    server.kill('SIGTERM')
    expect((await answer).status).toBe(200)
    expect((await end).status).toBe(0)
  })
})
