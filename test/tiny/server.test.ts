/** The completion server: its answers beside `generate` alone, many clients, clients that go away or read nothing, overload, its end. */

import { Agent, request } from 'node:http'
import { connect } from 'node:net'
import { afterAll, afterEach, beforeAll, describe, expect, it, vi } from 'vitest'
import { Decoder, encodeText, generate, TextStream } from '../../examples/tiny-deepseek/decoder/index.js'
import { MODEL_DIRECTORY } from '../../examples/tiny-deepseek/files.js'
import { DEFAULT_LIMITS } from '../../examples/tiny-deepseek/server/limits.js'
import { streamCompletion } from '../../examples/tiny-deepseek/server/load/stream-client.js'
import { CompletionServer, type CompletionServerOptions } from '../../examples/tiny-deepseek/server/server.js'
import type { DeviceOption } from '../../lib/devices/device.js'
import { nativeDevices } from '../helpers/devices.js'
import { finished, runProgram, startProgram } from '../helpers/run-program.js'
import { ask, errorOf, openStream, post, rawPost } from './completion-client.js'

const WAIT = { timeout: 60_000, interval: 5 }
/** Tokens that no test waits for. */
const LONG = 1_000_000
const device = nativeDevices[0] as DeviceOption
const load = () => Decoder.load(MODEL_DIRECTORY, { device, batchInvariant: true })

let alone: Decoder
const servers: CompletionServer[] = []
beforeAll(async () => {
  alone = await load()
})
afterAll(() => alone.dispose())
afterEach(async () => {
  await Promise.all(servers.splice(0).map(server => server.close()))
})

async function serve(options: CompletionServerOptions = {}) {
  const server = await CompletionServer.listen(await load(), { maxTokens: LONG, ...options })
  servers.push(server)
  return { server, url: `http://127.0.0.1:${server.port}` }
}

interface Fields {
  prompt: string
  max_tokens: number
  temperature: number
  top_p: number
  seed: number
}

/** The text that `generate` writes by itself. */
async function textOf({ prompt, max_tokens, temperature, top_p, seed }: Fields): Promise<string> {
  const stream = new TextStream()
  let text = ''
  const options = { maxTokens: max_tokens, temperature, topP: top_p, seed }
  for await (const { token } of generate(alone, encodeText(prompt), options)) text += stream.push(token)
  return text + stream.end()
}

describe('text', () => {
  it('is that of generate alone, whoever runs beside it, as a stream and as a whole', async () => {
    // Few prompt rows: prompts are read in parts, beside others that write.
    const { server, url } = await serve({ maxSequences: 5, maxPromptRows: 16 })
    const cases: Fields[] = Array.from({ length: 12 }, (_, i) => ({
      prompt: 'And it came to pass, that the light of the body is the eye, and '.slice(0, 4 + 3 * i),
      max_tokens: 4 + 3 * (i % 4),
      temperature: [0, 0.7, 1.5][i % 3]!,
      top_p: i % 2 ? 1 : 0.9,
      seed: i - 3,
    }))
    const agent = new Agent({ keepAlive: true })
    const streams = await Promise.all(cases.map(body => streamCompletion(url, { ...body }, { agent })))
    agent.destroy()
    const wholes = await Promise.all(cases.slice(0, 4).map(async body => (await post(url, body)).json()))
    for (const [i, body] of cases.entries()) {
      const text = await textOf(body)
      expect(streams[i]).toMatchObject({ text, finishReason: 'length', numTokens: body.max_tokens })
      if (i < wholes.length)
        expect(wholes[i]).toMatchObject({
          object: 'text_completion',
          model: 'tiny-deepseek',
          choices: [{ index: 0, text, finish_reason: 'length', logprobs: null }],
          usage: { prompt_tokens: body.prompt.length, completion_tokens: body.max_tokens },
        })
    }
    const { rows, steps, tokens, finished: done, running, waiting } = server.figures
    expect({ done, running, waiting }).toEqual({ done: cases.length + wholes.length, running: 0, waiting: 0 })
    // Completions shared steps: one by one there would be a step for each token at least.
    expect(steps).toBeLessThan(tokens)
    expect(rows).toBeGreaterThan(tokens)
  })

  it('goes on past the last position as generate does', async () => {
    const { url } = await serve({ maxPromptRows: 50 })
    // Longer than the model has positions: its end fills them, and the second token begins a new sequence.
    const prompt = 'In the beginning '.repeat(20)
    expect(prompt.length).toBeGreaterThan(alone.config.maxPositions)
    const body = { prompt, max_tokens: 4, temperature: 1, top_p: 1, seed: 9 }
    expect((await streamCompletion(url, body)).text).toBe(await textOf(body))
  })

  it('ends before the first stop, which is never shown, and takes tokens for a prompt', async () => {
    const { url } = await serve()
    const body = { prompt: 'And it came to pass ', max_tokens: 40, temperature: 0, top_p: 1, seed: 1 }
    const text = await textOf(body)
    const stops = [text.slice(20, 25), text.slice(10, 14)]
    const end = Math.min(...stops.map(stop => text.indexOf(stop)))
    const prompt = Array.from(encodeText(body.prompt))
    const stopped = await streamCompletion(url, { ...body, prompt, stop: [...stops, 'nowhere'] })
    expect(stopped).toMatchObject({ text: text.slice(0, end), finishReason: 'stop' })
    // A stop that only begins is shown at the end.
    const begun = await streamCompletion(url, { ...body, stop: `${text.slice(-3)}\u0000` })
    expect(begun).toMatchObject({ text, finishReason: 'length' })
  })
})

describe('clients', () => {
  it('that go away free their places, while they run and while they wait', async () => {
    const { server, url } = await serve({ maxSequences: 2, maxWaiting: 3 })
    const running = await Promise.all([openStream(url, LONG), openStream(url, LONG)])
    const waiting = request(`${url}/v1/completions`, { method: 'POST' }).on('error', () => {})
    waiting.end(JSON.stringify({ prompt: 'a', max_tokens: LONG }))
    await vi.waitFor(() => expect(server.figures).toMatchObject({ running: 2, waiting: 1 }), WAIT)
    waiting.destroy()
    await vi.waitFor(
      () => expect(server.figures).toMatchObject({ running: 2, waiting: 0, cancelled: 1 }),
      WAIT,
    )
    for (const socket of running) socket.destroy()
    await vi.waitFor(() => expect(server.figures).toMatchObject({ running: 0, cancelled: 3 }), WAIT)
    const next = await streamCompletion(url, { prompt: 'a', max_tokens: 2 })
    expect(next.outcome).toBe('ended')
    expect(server.figures).toMatchObject({ finished: 1, failed: 0 })
  })

  it('beyond the places and the waiting line get 429, and theirs once one is free', async () => {
    const { server, url } = await serve({ maxSequences: 1, maxWaiting: 1 })
    const first = await openStream(url, LONG)
    const second = post(url, { prompt: 'a', max_tokens: 3 })
    await vi.waitFor(() => expect(server.figures.waiting).toBe(1), WAIT)
    const refused = await post(url, { prompt: 'a' })
    expect(refused.headers.get('retry-after')).toBe('1')
    expect(await errorOf(refused)).toMatchObject({
      status: 429,
      type: 'rate_limit_error',
      code: 'rate_limit_exceeded',
    })
    expect((await ask(`${url}/healthz`)).status).toBe(200)
    first.destroy()
    expect((await second).status).toBe(200)
    expect(server.figures).toMatchObject({ refused: 1, finished: 1, running: 0, waiting: 0 })
  })

  it('have one completion at a time on a connection', async () => {
    const { server, url } = await serve()
    const [first, second] = [{ prompt: 'a', max_tokens: 5, stream: true }, { prompt: 'a' }]
    const socket = connect(Number(new URL(url).port), '127.0.0.1')
    socket.write(rawPost(first) + rawPost(second))
    let text = ''
    for await (const data of socket.setEncoding('utf8')) {
      text += data
      if (text.includes('pipelined_request')) break
    }
    expect(text).toMatch(/^HTTP\/1\.1 200 .*\[DONE\].*HTTP\/1\.1 400 .*pipelined_request/s)
    expect(server.figures).toMatchObject({ running: 0, finished: 1, tokens: 5 })
  })

  it('hear the error of a step that fails, and the server goes on', async () => {
    const decoder = await load()
    const server = await CompletionServer.listen(decoder)
    servers.push(server)
    const url = `http://127.0.0.1:${server.port}`
    const forward = vi.spyOn(decoder, 'forward').mockRejectedValueOnce(new Error('no memory for this'))
    expect(await errorOf(await post(url, { prompt: 'a' }))).toMatchObject({
      status: 500,
      type: 'server_error',
      code: 'internal_error',
      message: 'no memory for this',
    })
    forward.mockRestore()
    expect((await post(url, { prompt: 'a', max_tokens: 1 })).status).toBe(200)
    expect(server.figures).toMatchObject({ failed: 1, finished: 1 })
  })
})

describe('the programs', () => {
  it('SIGTERM ends what runs, refuses what comes, and exits with 0; a second one ends it at once', async () => {
    const startServer = async () => {
      const child = startProgram('examples/tiny-deepseek/server/main.ts', ['--port', '0'])
      const url = await new Promise<string>((resolve, reject) => {
        child.stdout!.on('data', text => {
          const found = /http:\S+/.exec(String(text))
          if (found) resolve(found[0])
        })
        child.once('exit', status => reject(new Error(`the server ended with status ${status}`)))
      })
      return { child, url, end: finished(child) }
    }
    const [one, two] = await Promise.all([startServer(), startServer()])
    const { maxTokens } = DEFAULT_LIMITS
    // Ends when this test has seen what it wants: the server is there until then.
    const held = await openStream(one.url, maxTokens)
    const accepted = streamCompletion(one.url, { prompt: 'And ', max_tokens: 60, seed: 1 })
    await vi.waitFor(
      async () =>
        expect(await (await ask(`${one.url}/metrics`)).text()).toMatch(/_running 2\n|_finished_total 1\n/),
      WAIT,
    )
    const endless = await openStream(two.url, maxTokens)
    one.child.kill('SIGTERM')
    two.child.kill('SIGTERM')
    await vi.waitFor(async () => expect((await ask(`${one.url}/healthz`)).status).toBe(503), WAIT)
    expect(await errorOf(await post(one.url, { prompt: 'a' }))).toMatchObject({
      status: 503,
      type: 'server_error',
      code: 'shutting_down',
    })
    expect(await accepted).toMatchObject({ outcome: 'ended', numTokens: 60 })
    held.destroy()
    expect((await one.end).status).toBe(0)
    await vi.waitFor(async () => expect((await ask(`${two.url}/healthz`)).status).toBe(503), WAIT)
    two.child.kill('SIGTERM')
    expect((await two.end).status).toBe(1)
    endless.destroy()
  })

  it('npm run tiny:load checks its streams, leaves some, and says what they took', async () => {
    const options = ['--clients', '4', '--seconds', '1', '--max-tokens', '8', '--hang-ups', '20']
    const { status, stdout, stderr } = await runProgram('examples/tiny-deepseek/server/load/main.ts', options)
    expect({ status, stderr }).toEqual({ status: 0, stderr: '' })
    expect(stdout).toMatch(/[1-9]\d* ended, \d+ left by their client, 0 refused, 0 failed/)
    expect(stdout).toMatch(/first token +p50 .*, p99 /)
  })
})
