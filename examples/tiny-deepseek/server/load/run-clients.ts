/** So many clients at a time, each asking again as soon as it is answered, until the time is over. */

import { Agent } from 'node:http'
import { setTimeout as delay } from 'node:timers/promises'
import { readHeldOut } from '../../files.js'
import { type StreamRequest, type StreamResult, streamCompletion } from './stream-client.js'

export interface LoadOptions {
  clients: number
  seconds: number
  /** Most tokens of a completion; each asks for between half of them and all. */
  maxTokens: number
  /** Of a hundred streams, those that their client leaves in the middle. */
  hangUps: number
}

export interface LoadFigures {
  ended: StreamResult[]
  hungUp: number
  refused: number
  /** Ended streams with the same request as an earlier one, whose text was the same too. */
  repeated: number
  /** What went wrong, stream by stream. */
  failures: string[]
  /** From the first request to the last answer. */
  elapsedMs: number
}

const PROMPT_LENGTHS = [7, 20, 33, 64, 120, 200]
/** Few, so that requests come again: a text must not depend on who runs beside it. */
const NUM_REQUESTS = 48

/** Requests that differ in length, temperature and seed. */
async function makeRequests(maxTokens: number): Promise<StreamRequest[]> {
  const text = await readHeldOut()
  return Array.from({ length: NUM_REQUESTS }, (_, i) => {
    const length = PROMPT_LENGTHS[i % PROMPT_LENGTHS.length]!
    return {
      prompt: Array.from(text.subarray(1000 * i, 1000 * i + length)),
      max_tokens: Math.max(1, Math.round(maxTokens * (0.5 + (0.5 * i) / (NUM_REQUESTS - 1)))),
      temperature: i % 4 === 0 ? 0 : 0.8,
      top_p: 0.95,
      seed: i,
    }
  })
}

export async function runClients(url: string, options: LoadOptions): Promise<LoadFigures> {
  const { clients, seconds, maxTokens, hangUps } = options
  const requests = await makeRequests(maxTokens)
  const texts = new Map<StreamRequest, string>()
  const figures: LoadFigures = { ended: [], hungUp: 0, refused: 0, repeated: 0, failures: [], elapsedMs: 0 }
  const agent = new Agent({ keepAlive: true })
  const began = performance.now()
  const end = began + 1000 * seconds
  let asked = 0

  const one = async (): Promise<void> => {
    const index = asked++
    const request = requests[index % requests.length]!
    // Spread evenly: as many of each hundred as asked for.
    const leaves = Math.floor(((index + 1) * hangUps) / 100) > Math.floor((index * hangUps) / 100)
    const result = await streamCompletion(url, request, {
      agent,
      ...(leaves && { hangUpAfter: Math.max(1, Math.floor(request.max_tokens / 4)) }),
    })
    if (result.outcome === 'refused') {
      figures.refused++
      await delay(result.retryAfterMs)
      return
    }
    const known = texts.get(request)
    if (result.outcome === 'hung-up') {
      figures.hungUp++
      if (known !== undefined && !known.startsWith(result.text))
        throw new Error('the text is not that of before')
      return
    }
    figures.ended.push(result)
    if (known === undefined) texts.set(request, result.text)
    else if (known === result.text) figures.repeated++
    else throw new Error(`the text of seed ${request.seed} is not that of before`)
  }
  const client = async () => {
    while (performance.now() < end) {
      try {
        await one()
      } catch (error) {
        figures.failures.push((error as Error).message)
        // A server that is gone is not asked as fast as it refuses.
        await delay(100)
      }
    }
  }
  await Promise.all(Array.from({ length: clients }, client))
  figures.elapsedMs = performance.now() - began
  agent.destroy()
  return figures
}
