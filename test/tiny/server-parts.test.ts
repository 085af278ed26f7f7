/** Parts of the completion server by themselves: stops in a text, readers that are slow, the order of steps. */

import { createServer } from 'node:http'
import { type AddressInfo, connect, type Socket } from 'node:net'
import { PassThrough } from 'node:stream'
import { setImmediate as nextTurn } from 'node:timers/promises'
import fc from 'fast-check'
import { describe, expect, it, vi } from 'vitest'
import type { Decoder, SequencePart } from '../../examples/tiny-deepseek/decoder/index.js'
import type { CompletionRequest } from '../../examples/tiny-deepseek/server/completion-request.js'
import type { Listener } from '../../examples/tiny-deepseek/server/job.js'
import { quantile } from '../../examples/tiny-deepseek/server/load/report.js'
import { Scheduler } from '../../examples/tiny-deepseek/server/scheduler.js'
import { StopStrings } from '../../examples/tiny-deepseek/server/stop-strings.js'
import { UnreadBytes } from '../../examples/tiny-deepseek/server/unread-bytes.js'

describe('StopStrings', () => {
  const word = (maxLength: number) =>
    fc.string({ unit: fc.constantFrom('a', 'b', '😀'), minLength: 1, maxLength })

  it('shows the text before the stop that ends first, in whatever pieces it comes', () => {
    fc.assert(
      fc.property(
        fc.array(word(4), { maxLength: 30 }),
        fc.array(word(4), { maxLength: 4 }),
        (pieces, stops) => {
          const filter = new StopStrings(stops)
          let shown = ''
          let isStopped = false
          for (const piece of pieces) {
            const result = filter.push(piece)
            shown += result.text
            isStopped = result.isStopped
            if (isStopped) break
          }
          if (!isStopped) shown += filter.end()
          // Over the whole text: the first end of a stop, and of those that end there the one that begins first.
          const text = pieces.join('')
          const matches = stops
            .map(stop => ({ begin: text.indexOf(stop), end: text.indexOf(stop) + stop.length }))
            .filter(({ begin }) => begin >= 0)
            .sort((a, b) => a.end - b.end || a.begin - b.begin)
          expect({ shown, isStopped }).toEqual({
            shown: text.slice(0, matches[0]?.begin ?? text.length),
            isStopped: matches.length > 0,
          })
        },
      ),
    )
  })

  it('holds back no more than may begin a stop', () => {
    const filter = new StopStrings(['abc'])
    expect(['x', 'a', 'b', 'a', 'x'].map(piece => filter.push(piece).text)).toEqual(['x', '', '', 'ab', 'ax'])
  })
})

describe('UnreadBytes', () => {
  it('is full at the high-water mark, and free again once the reader has read', async () => {
    const reader = new PassThrough({ highWaterMark: 8 })
    const onDrain = vi.fn()
    const unread = new UnreadBytes(reader, 60_000, onDrain)
    while (!unread.isFull) unread.write('abc')
    // Both sides of the stream hold their mark, and one piece each.
    expect(reader.readableLength + reader.writableLength).toBeLessThanOrEqual(2 * (8 + 3))
    reader.resume()
    await vi.waitFor(() => expect(onDrain).toHaveBeenCalledTimes(1))
    expect([unread.isFull, reader.destroyed]).toEqual([false, false])
    reader.destroy()
  })

  it('cuts off a reader that reads nothing', async () => {
    const reader = new PassThrough({ highWaterMark: 8 })
    const unread = new UnreadBytes(reader, 1, () => {})
    while (!unread.isFull) unread.write('abc')
    await vi.waitFor(() => expect(reader.destroyed).toBe(true))
  })
})

it('a response whose client has stopped reading holds what its mark allows, until the client is cut off', async () => {
  const [mark, piece] = [16 * 1024, 'x'.repeat(1000)]
  let most = 0
  const server = createServer({ highWaterMark: mark }, (_request, response) => {
    const fill = () => {
      while (!unread.isFull && !response.destroyed) {
        unread.write(piece)
        most = Math.max(most, response.writableLength)
      }
    }
    const unread = new UnreadBytes(response, 200, fill)
    fill()
  })
  await new Promise<void>(resolve => server.listen(0, '127.0.0.1', resolve))
  const socket = connect((server.address() as AddressInfo).port, '127.0.0.1').pause()
  socket.write('GET / HTTP/1.1\r\nhost: a\r\n\r\n')
  const connection = await new Promise<Socket>(resolve => server.once('connection', resolve))
  await new Promise(resolve => connection.once('close', resolve))
  expect(most).toBeGreaterThanOrEqual(mark)
  // A piece beyond the mark, and what HTTP adds to the pieces.
  expect(most).toBeLessThan(mark + 5 * piece.length)
  socket.destroy()
  await new Promise(resolve => server.close(resolve))
})

/** A decoder that computes nothing: byte 97 always follows. Notes what each step takes of whom. */
function fakeDecoder() {
  const steps: number[][] = []
  const logits = new Float32Array(256)
  logits[97] = 1
  const decoder = {
    config: { maxPositions: 1000, vocabSize: 256 },
    newSequence: () => ({ length: 0, layers: [] }),
    forward: async (parts: readonly SequencePart[]) => {
      steps.push(parts.map(({ tokens }) => tokens.length))
      const rows = parts.reduce((sum, { tokens }) => sum + tokens.length, 0)
      const all = new Float32Array(rows * 256)
      for (let row = 0; row < rows; row++) all.set(logits, row * 256)
      for (const { sequence, tokens } of parts) sequence.length += tokens.length
      return { logits: all }
    },
  } as unknown as Decoder
  return { decoder, steps }
}

const ask = (promptRows: number, maxTokens: number): CompletionRequest => ({
  prompt: new Uint8Array(promptRows),
  maxTokens,
  ...{ temperature: 0, topP: 1, seed: 1, stop: [], stream: true, includeUsage: false },
})

class Recorder implements Listener {
  isFull = false
  written = ''
  reason = ''
  text(text: string): void {
    this.written += text
  }
  end(reason: string): void {
    this.reason = reason
  }
  fail(error: unknown): void {
    throw error
  }
}

describe('Scheduler', () => {
  it('gives each writer a row in each step, prompts the rows of the bound, the oldest first', async () => {
    const { decoder, steps } = fakeDecoder()
    const scheduler = new Scheduler(decoder, { maxSequences: 3, maxWaiting: 1, maxPromptRows: 4 })
    const requests = [ask(1, 6), ask(10, 1), ask(3, 2), ask(2, 1)]
    for (const request of requests) scheduler.submit(request, new Recorder())
    await scheduler.idle()
    expect(steps).toEqual([
      [1, 4],
      [1, 4],
      // The rest of the second prompt, and of the third what the bound leaves; the second ends, and the fourth takes its place.
      [1, 2, 2],
      [1, 1, 2],
      [1, 1],
      [1],
    ])
    expect(scheduler.figures).toMatchObject({ steps: 6, rows: 22, tokens: 10, finished: 4, waiting: 0 })
  })

  it('leaves out who is full, lets the others go on, and takes it along again once it is woken', async () => {
    const { decoder } = fakeDecoder()
    const scheduler = new Scheduler(decoder, { maxSequences: 2, maxWaiting: 0, maxPromptRows: 4 })
    const [slow, quick] = [new Recorder(), new Recorder()]
    slow.isFull = true
    scheduler.submit(ask(2, 5), slow)
    scheduler.submit(ask(2, 5), quick)
    await scheduler.idle()
    expect([slow.written, quick.written]).toEqual(['', 'aaaaa'])
    expect(scheduler.figures).toMatchObject({ running: 1, finished: 1 })
    slow.isFull = false
    scheduler.wake()
    await scheduler.idle()
    expect([slow.written, slow.reason]).toEqual(['aaaaa', 'length'])
  })

  it('gives the place of a paused completion, for which no step runs, to who waits', async () => {
    const { decoder } = fakeDecoder()
    const scheduler = new Scheduler(decoder, { maxSequences: 1, maxWaiting: 1, maxPromptRows: 4 })
    const [paused, next] = [new Recorder(), new Recorder()]
    paused.isFull = true
    const job = scheduler.submit(ask(2, 5), paused)
    scheduler.submit(ask(2, 5), next)
    await scheduler.idle()
    expect(scheduler.figures).toMatchObject({ running: 1, waiting: 1, steps: 0 })
    scheduler.cancel(job)
    await scheduler.idle()
    expect([paused.written, next.written]).toEqual(['', 'aaaaa'])
    expect(scheduler.figures).toMatchObject({ running: 0, waiting: 0 })
  })

  it('takes no row of a cancelled completion after the step that runs', async () => {
    const { decoder, steps } = fakeDecoder()
    const scheduler = new Scheduler(decoder, { maxSequences: 2, maxWaiting: 0, maxPromptRows: 8 })
    const [left, stays] = [new Recorder(), new Recorder()]
    const job = scheduler.submit(ask(1, 1000), left)
    scheduler.submit(ask(1, 20), stays)
    while (left.written.length < 3) await nextTurn()
    const stepsBefore = steps.length
    scheduler.cancel(job)
    scheduler.cancel(job)
    await scheduler.idle()
    expect(steps.slice(stepsBefore + 1).every(rows => rows.length === 1)).toBe(true)
    expect(stays.written).toBe('a'.repeat(20))
    expect(scheduler.figures).toMatchObject({ cancelled: 1, finished: 1, running: 0 })
  })
})

it('a quantile is the smallest value that the share does not exceed', () => {
  const values = [5, 1, 4, 2, 3]
  expect([0, 0.2, 0.5, 0.99, 1].map(q => quantile(values, q))).toEqual([1, 1, 3, 5, 5])
  expect(quantile([], 0.5)).toBeNaN()
})
