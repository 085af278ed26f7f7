/** The example server around a small model of one layer, in this process. */

import { MoeModel } from 'sparse-experts'
import { serve } from '../../examples/http-server/server.js'
import { removeDirectories, TINY, tinyCheckpoint } from './scratch.js'

/** Rows that its layer lets wait or run. */
export const MAX_QUEUED_TOKENS = 8

/** `numRows` hidden states of {@link TINY}. */
export const exampleRows = (numRows: number) =>
  Float32Array.from({ length: numRows * TINY.hiddenSize }, (_, i) => Math.sin(i * i))

/** Begins; `close` ends it and deletes the checkpoint. */
export async function startExampleServer() {
  const model = await MoeModel.load(await tinyCheckpoint(), {
    device: 'reference',
    maxQueuedTokens: MAX_QUEUED_TOKENS,
  })
  const layer = model.layer(model.layers[0]!)
  const server = await serve(model)
  const url = `http://127.0.0.1:${server.port}`
  /** A connection of its own each time: a kept one may be closed by the server just when it is taken. */
  const ask = (address: string, type?: string, body?: string | Float32Array<ArrayBuffer>) =>
    fetch(url + address, {
      method: address.startsWith('/forward') ? 'POST' : 'GET',
      headers: { connection: 'close', ...(type && { 'content-type': type }) },
      body,
    })
  return {
    ...{ layer, server, url, ask },
    text: async (address: string) => (await ask(address)).text(),
    /** `POST /forward`. */
    json: (body: object, query = '') => ask(`/forward${query}`, 'application/json', JSON.stringify(body)),
    binary: (rows: Float32Array<ArrayBuffer>, query = '') =>
      ask(`/forward${query}`, 'application/octet-stream', rows),
    close: async () => {
      await server.close()
      await removeDirectories()
    },
  }
}

export type ExampleServer = Awaited<ReturnType<typeof startExampleServer>>
