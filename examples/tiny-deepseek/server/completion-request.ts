/** The body of `POST /v1/completions`, checked. `null` means what a field that is left out means, as it does at OpenAI. */

import { randomInt } from 'node:crypto'
import { encodeText } from '../decoder/text.js'
import { ApiError, invalidField } from './api-error.js'
import type { ServerLimits } from './limits.js'

export interface CompletionRequest {
  /** Bytes, at least one. */
  prompt: Uint8Array
  maxTokens: number
  temperature: number
  topP: number
  seed: number
  /** Texts before which a completion ends; none is empty. */
  stop: readonly string[]
  stream: boolean
  /** Whether a stream says at its end how many tokens it took. */
  includeUsage: boolean
}

const MAX_STOPS = 4
/** UTF-16 units of a stop; text that may begin one is held back so long. */
const MAX_STOP_LENGTH = 256

/** Fields of the API that this server does not offer, and the values at which they change nothing. */
const UNSUPPORTED = new Map<string, (value: unknown) => boolean>([
  ['n', value => value === 1],
  ['best_of', value => value === 1],
  ['echo', value => value === false],
  ['logprobs', () => false],
  ['suffix', () => false],
  ['presence_penalty', value => value === 0],
  ['frequency_penalty', value => value === 0],
  ['logit_bias', value => isRecord(value) && Object.keys(value).length === 0],
])
const SUPPORTED = new Set([
  ...['model', 'prompt', 'max_tokens', 'temperature', 'top_p', 'seed', 'stop', 'stream', 'stream_options'],
  // Who asks changes no answer.
  'user',
])

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}

/**
 * @param model the only one that is served
 * @throws {@link ApiError} 400 with the field that is wrong, 404 for another model
 */
export function parseCompletionRequest(
  body: Uint8Array,
  model: string,
  { maxTokens }: Pick<ServerLimits, 'maxTokens'>,
): CompletionRequest {
  const fields = parseFields(body)
  const asked = fields.model ?? model
  if (asked !== model) {
    const message = `There is no model ${JSON.stringify(asked)}: ask for '${model}', or leave 'model' out`
    throw new ApiError(404, 'model_not_found', message, 'model')
  }
  const number = (name: string, absent: number, min: number, max: number) => {
    const value = fields[name] ?? absent
    if (typeof value === 'number' && value >= min && value <= max) return value
    throw invalidField(name, `'${name}' must be a number from ${min} to ${max}`)
  }
  const flag = (value: unknown, name: string) => {
    const given = value ?? false
    if (typeof given === 'boolean') return given
    throw invalidField(name, `'${name}' must be true or false`)
  }
  const integer = (name: string, absent: number, min: number, max: number) => {
    const value = fields[name] ?? absent
    if (Number.isSafeInteger(value) && Number(value) >= min && Number(value) <= max) return Number(value)
    throw invalidField(name, `'${name}' must be an integer from ${min} to ${max}`)
  }
  const topP = number('top_p', 1, 0, 1)
  if (topP === 0) throw invalidField('top_p', "'top_p' must be above 0; 'temperature': 0 takes the likeliest")
  const stream = flag(fields.stream, 'stream')
  const streamOptions = fields.stream_options ?? {}
  if (!isRecord(streamOptions)) throw invalidField('stream_options', "'stream_options' must be an object")
  if (fields.stream_options && !stream)
    throw invalidField('stream_options', "'stream_options' needs 'stream': true")
  return {
    prompt: parsePrompt(fields.prompt),
    maxTokens: integer('max_tokens', Math.min(16, maxTokens), 1, maxTokens),
    temperature: number('temperature', 1, 0, 2),
    topP,
    seed: integer('seed', randomInt(2 ** 32), Number.MIN_SAFE_INTEGER, Number.MAX_SAFE_INTEGER),
    stop: parseStop(fields.stop),
    stream,
    includeUsage: flag(streamOptions.include_usage, 'stream_options.include_usage'),
  }
}

function parseFields(body: Uint8Array): Record<string, unknown> {
  let fields: unknown
  try {
    fields = JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(body))
  } catch (error) {
    throw new ApiError(400, 'invalid_json', `The body is not JSON in UTF-8: ${(error as Error).message}`)
  }
  if (!isRecord(fields)) throw new ApiError(400, 'invalid_json', 'The body must be a JSON object')
  for (const [name, value] of Object.entries(fields)) {
    if (SUPPORTED.has(name) || (value === null && UNSUPPORTED.has(name))) continue
    const changesNothing = UNSUPPORTED.get(name)
    if (!changesNothing) {
      const message = `Unrecognized field ${JSON.stringify(name)}: leave it out; there are ${[...SUPPORTED].join(', ')}`
      throw new ApiError(400, 'unknown_field', message, name)
    }
    if (!changesNothing(value)) {
      const message = `This server offers no '${name}': leave it out`
      throw new ApiError(400, 'unsupported_value', message, name)
    }
  }
  return fields
}

/** A text, a list of one, or a list of tokens. */
function parsePrompt(value: unknown): Uint8Array {
  const prompt = Array.isArray(value) && value.length === 1 && typeof value[0] === 'string' ? value[0] : value
  const isToken = (token: unknown) => Number.isInteger(token) && Number(token) >= 0 && Number(token) < 256
  const isTokens = Array.isArray(prompt) && prompt.every(isToken)
  if (typeof prompt !== 'string' && !isTokens) {
    const message =
      "'prompt' must be a text or a list of tokens, integers from 0 to 255: send one request for each prompt"
    throw invalidField('prompt', message)
  }
  if (prompt.length === 0)
    throw invalidField('prompt', "'prompt' is empty; the model has no token that begins a text: send some")
  return typeof prompt === 'string' ? encodeText(prompt) : Uint8Array.from(prompt)
}

function parseStop(value: unknown): string[] {
  const stops: unknown[] = value === undefined || value === null ? [] : Array.isArray(value) ? value : [value]
  const isStop = (stop: unknown): stop is string =>
    typeof stop === 'string' && stop.length > 0 && stop.length <= MAX_STOP_LENGTH
  if (!(stops.length <= MAX_STOPS && stops.every(isStop))) {
    const message = `'stop' must be a text of 1 to ${MAX_STOP_LENGTH} characters, or a list of ${MAX_STOPS} at most`
    throw invalidField('stop', message)
  }
  // Half of a surrogate pair becomes U+FFFD, as it does in a prompt: a stop never cuts a character in two.
  return stops.map(stop => Buffer.from(stop).toString())
}
