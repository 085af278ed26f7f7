/** Requests to a completion server. */

import { connect, type Socket } from 'node:net'

/** Bytes and text as they are, else in JSON. */
export type Body = string | object | Uint8Array<ArrayBuffer>

/** Each request has a connection of its own. */
export const ask = (url: string, body?: Body) =>
  fetch(url, {
    method: body === undefined ? 'GET' : 'POST',
    headers: { connection: 'close', 'content-type': 'application/json' },
    body: typeof body === 'object' && !(body instanceof Uint8Array) ? JSON.stringify(body) : body,
  })
export const post = (url: string, body: Body) => ask(`${url}/v1/completions`, body)
export async function errorOf(response: Response) {
  const { error } = (await response.json()) as { error: Record<string, unknown> }
  return { status: response.status, ...error }
}

export const rawPost = (body: object) => {
  const text = JSON.stringify(body)
  return `POST /v1/completions HTTP/1.1\r\nhost: a\r\ncontent-length: ${text.length}\r\n\r\n${text}`
}

/** A stream whose client reads its beginning and nothing after it. */
export function openStream(url: string, maxTokens: number): Promise<Socket> {
  return new Promise((resolve, reject) => {
    const socket = connect(Number(new URL(url).port), '127.0.0.1')
    socket.write(rawPost({ prompt: 'And ', max_tokens: maxTokens, stream: true, seed: 1 }))
    socket.once('error', reject)
    socket.once('data', () => {
      socket.pause()
      socket.removeListener('error', reject).on('error', () => {})
      resolve(socket)
    })
  })
}
