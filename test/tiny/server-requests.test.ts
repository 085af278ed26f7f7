/** The completion server's routes, and what it says to requests that are wrong. */

import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { Decoder } from '../../examples/tiny-deepseek/decoder/index.js'
import { MODEL_DIRECTORY } from '../../examples/tiny-deepseek/files.js'
import { CompletionServer } from '../../examples/tiny-deepseek/server/server.js'
import type { DeviceOption } from '../../lib/devices/device.js'
import { nativeDevices } from '../helpers/devices.js'
import { ask, errorOf, post } from './completion-client.js'

describe('bad requests', () => {
  let url: string
  let server: CompletionServer
  beforeAll(async () => {
    server = await CompletionServer.listen(
      await Decoder.load(MODEL_DIRECTORY, { device: nativeDevices[0] as DeviceOption }),
      { maxTokens: 100, maxBodyBytes: 2000 },
    )
    url = `http://127.0.0.1:${server.port}`
  })
  afterAll(() => server.close())

  it.each<[string | object, string, string | null]>([
    ['{', 'invalid_json', null],
    ['[]', 'invalid_json', null],
    [{}, 'invalid_value', 'prompt'],
    [{ prompt: '' }, 'invalid_value', 'prompt'],
    [{ prompt: [] }, 'invalid_value', 'prompt'],
    [{ prompt: ['a', 'b'] }, 'invalid_value', 'prompt'],
    [{ prompt: [1, 256] }, 'invalid_value', 'prompt'],
    [{ prompt: 'a', max_tokens: 0 }, 'invalid_value', 'max_tokens'],
    [{ prompt: 'a', max_tokens: 101 }, 'invalid_value', 'max_tokens'],
    [{ prompt: 'a', max_tokens: 1.5 }, 'invalid_value', 'max_tokens'],
    [{ prompt: 'a', temperature: -0.1 }, 'invalid_value', 'temperature'],
    [{ prompt: 'a', temperature: '1' }, 'invalid_value', 'temperature'],
    ['{"prompt":"a","temperature":1e999}', 'invalid_value', 'temperature'],
    [{ prompt: 'a', top_p: 0 }, 'invalid_value', 'top_p'],
    [{ prompt: 'a', top_p: 1.1 }, 'invalid_value', 'top_p'],
    [{ prompt: 'a', seed: 0.5 }, 'invalid_value', 'seed'],
    [{ prompt: 'a', stop: '' }, 'invalid_value', 'stop'],
    [{ prompt: 'a', stop: ['a', 'b', 'c', 'd', 'e'] }, 'invalid_value', 'stop'],
    [{ prompt: 'a', stop: 7 }, 'invalid_value', 'stop'],
    [{ prompt: 'a', stream: 'yes' }, 'invalid_value', 'stream'],
    [{ prompt: 'a', stream_options: { include_usage: true } }, 'invalid_value', 'stream_options'],
    [{ prompt: 'a', n: 2 }, 'unsupported_value', 'n'],
    [{ prompt: 'a', logprobs: 1 }, 'unsupported_value', 'logprobs'],
    [{ prompt: 'a', constructor: 1 }, 'unknown_field', 'constructor'],
    ['{"prompt":"a","__proto__":{}}', 'unknown_field', '__proto__'],
  ])('%j is 400 %s', async (body, code, param) => {
    expect(await errorOf(await post(url, body))).toMatchObject({
      status: 400,
      type: 'invalid_request_error',
      code,
      param,
      message: expect.stringMatching(/.{10}/),
    })
  })

  it('null is what is left out, and what changes nothing is no mistake', async () => {
    const body = {
      prompt: ['a'],
      max_tokens: 2,
      n: 1,
      best_of: null,
      logprobs: null,
      echo: false,
      stop: null,
    }
    expect((await post(url, { ...body, logit_bias: {}, user: 'me', model: null, seed: null })).status).toBe(
      200,
    )
  })

  it('other models, addresses, methods and large bodies have their own status', async () => {
    expect(await errorOf(await post(url, { prompt: 'a', model: 'gpt' }))).toMatchObject({
      status: 404,
      code: 'model_not_found',
      param: 'model',
    })
    expect((await errorOf(await ask(`${url}/v1/chat`))).status).toBe(404)
    expect((await errorOf(await ask(`${url}/constructor`))).status).toBe(404)
    const wrongMethod = await ask(`${url}/v1/completions`)
    expect([wrongMethod.status, wrongMethod.headers.get('allow')]).toEqual([405, 'POST'])
    expect(await errorOf(await post(url, { prompt: 'a'.repeat(2000) }))).toMatchObject({
      status: 413,
      code: 'body_too_large',
    })
    const cutCharacter = Uint8Array.from(Buffer.from('{"prompt":"\xff"}', 'latin1'))
    expect(await errorOf(await post(url, cutCharacter))).toMatchObject({ status: 400, code: 'invalid_json' })
    expect(server.figures).toMatchObject({ failed: 0, running: 0 })
  })

  it('models, health and metrics answer', async () => {
    expect(await (await ask(`${url}/v1/models`)).json()).toMatchObject({
      object: 'list',
      data: [{ id: 'tiny-deepseek', object: 'model' }],
    })
    expect(await (await ask(`${url}/healthz?x=1`)).json()).toMatchObject({ status: 'ready' })
    const metrics = await (await ask(`${url}/metrics`)).text()
    expect(metrics).toMatch(/^sparse_experts_tokens_total\{[^}]*layer="decoder\.4"/m)
    expect(metrics).toMatch(/^completions_running 0$/m)
  })
})
