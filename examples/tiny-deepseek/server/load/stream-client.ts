/** A client of one stream: asks, reads its events as they come, and checks all that the API promises of them. */

import { type Agent, type IncomingMessage, request } from 'node:http'
import { isDeepStrictEqual } from 'node:util'

/** Of the fields of a request, those that the checks need; others go along as they are. */
export interface StreamRequest {
  prompt: string | readonly number[]
  max_tokens: number
  stop?: string | readonly string[]
  [field: string]: unknown
}

export interface StreamOptions {
  agent?: Agent
  /** Goes away after so many pieces of text. */
  hangUpAfter?: number
}

export interface StreamResult {
  /** `hung-up`: this client went away; `refused`: 429. */
  outcome: 'ended' | 'hung-up' | 'refused'
  text: string
  finishReason: string | null
  /** As the usage says; pieces where this client went away. */
  numTokens: number
  /** From the request to the first piece of text. */
  firstMs: number
  /** Between two pieces of text. */
  gapsMs: number[]
  /** Of a refusal. */
  retryAfterMs: number
}

interface Chunk {
  id: string
  object: string
  created: number
  model: string
  choices: { index: number; text: string; logprobs: null; finish_reason: string | null }[]
  usage?: { prompt_tokens: number; completion_tokens: number; total_tokens: number }
}

function check(holds: boolean, problem: string): asserts holds {
  if (!holds) throw new Error(`the stream is wrong: ${problem}`)
}

/** The `data` of each event. */
async function* eventsOf(response: IncomingMessage): AsyncGenerator<string> {
  let rest = ''
  for await (const text of response.setEncoding('utf8') as AsyncIterable<string>) {
    const events = (rest + text).split('\n\n')
    rest = events.pop()!
    for (const event of events) {
      check(/^data: [^\n]+$/.test(event), `an event is ${JSON.stringify(event)}`)
      yield event.slice('data: '.length)
    }
  }
  check(rest === '', `it ends with ${JSON.stringify(rest)}`)
}

/** @throws Error where the answer is not what the API promises */
export async function streamCompletion(
  url: string,
  body: StreamRequest,
  { agent, hangUpAfter = Number.POSITIVE_INFINITY }: StreamOptions = {},
): Promise<StreamResult> {
  const began = performance.now()
  const response = await post(url, { ...body, stream: true, stream_options: { include_usage: true } }, agent)
  const result: StreamResult = {
    ...{ outcome: 'ended', text: '', finishReason: null },
    ...{ numTokens: 0, firstMs: 0, gapsMs: [], retryAfterMs: 0 },
  }
  if (response.statusCode === 429) {
    response.resume()
    const seconds = Number(response.headers['retry-after'])
    check(seconds > 0, 'a 429 comes without retry-after')
    return { ...result, outcome: 'refused', retryAfterMs: 1000 * seconds }
  }
  check(response.statusCode === 200, `status ${response.statusCode}`)
  check(Boolean(response.headers['content-type']?.startsWith('text/event-stream')), 'it is no event stream')

  let head: object | undefined
  let usage: Chunk['usage']
  let isDone = false
  let last = began
  let numPieces = 0
  for await (const data of eventsOf(response)) {
    check(!isDone, 'something follows [DONE]')
    if (data === '[DONE]') {
      isDone = true
      continue
    }
    const { choices, usage: chunkUsage, ...chunkHead } = JSON.parse(data) as Chunk
    head ??= chunkHead
    check(isDeepStrictEqual(chunkHead, head), `events begin with ${JSON.stringify([head, chunkHead])}`)
    if (chunkUsage) {
      check(result.finishReason !== null && choices.length === 0, 'the usage comes before the end')
      usage = chunkUsage
      continue
    }
    check(choices.length === 1 && choices[0]!.index === 0, 'a piece has not one choice')
    check(result.finishReason === null, 'text follows the end')
    const { text, finish_reason } = choices[0]!
    result.finishReason = finish_reason
    if (text === '') {
      check(finish_reason !== null, 'a piece has no text')
      continue
    }
    result.text += text
    const now = performance.now()
    if (numPieces++ === 0) result.firstMs = now - began
    else result.gapsMs.push(now - last)
    last = now
    if (numPieces >= hangUpAfter) {
      response.destroy()
      return { ...result, outcome: 'hung-up', numTokens: numPieces }
    }
  }
  check(isDone, 'it ends without [DONE]')
  check(usage !== undefined, 'it has no usage')
  checkEnd(result, usage, body)
  return { ...result, numTokens: usage.completion_tokens }
}

function checkEnd(
  { finishReason, text }: StreamResult,
  usage: NonNullable<Chunk['usage']>,
  { prompt, max_tokens, stop = [] }: StreamRequest,
): void {
  const promptTokens = typeof prompt === 'string' ? Buffer.byteLength(prompt) : prompt.length
  const { prompt_tokens, completion_tokens, total_tokens } = usage
  check(
    prompt_tokens === promptTokens && total_tokens === promptTokens + completion_tokens,
    `its usage is ${JSON.stringify(usage)} for a prompt of ${promptTokens} tokens`,
  )
  const isWhole = finishReason === 'length' && completion_tokens === max_tokens
  const isStopped = finishReason === 'stop' && completion_tokens <= max_tokens
  check(
    isWhole || isStopped,
    `it ends with '${finishReason}' after ${completion_tokens} of ${max_tokens} tokens`,
  )
  for (const one of [stop].flat())
    check(!text.includes(one), `its text holds the stop ${JSON.stringify(one)}`)
}

function post(url: string, body: object, agent: Agent | undefined): Promise<IncomingMessage> {
  return new Promise((resolve, reject) => {
    const call = request(`${url}/v1/completions`, {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      ...(agent && { agent }),
    })
    call.on('response', resolve)
    call.on('error', reject)
    call.end(JSON.stringify(body))
  })
}
