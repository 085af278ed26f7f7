/** What the example server says of itself to a monitor: metrics of prom-client and spans of OpenTelemetry. */

import { AsyncLocalStorage } from 'node:async_hooks'
import {
  type Attributes,
  type Context,
  type ContextManager,
  context,
  ROOT_CONTEXT,
  type Span,
  type SpanOptions,
  type SpanStatus,
  SpanStatusCode,
  trace,
} from '@opentelemetry/api'
import { metrics } from 'sparse-experts'
import { afterAll, afterEach, beforeAll, describe, expect, it, vi } from 'vitest'
import { type ExampleServer, exampleRows, startExampleServer } from '../helpers/example-server.js'

let server: ExampleServer
beforeAll(async () => {
  server = await startExampleServer()
})
afterAll(() => server.close())

describe('/metrics', () => {
  it('has the figures that the library itself prints, under the same names', async () => {
    await server.binary(exampleRows(2))
    const samplesOf = (printed: string) =>
      new Map(
        [...printed.matchAll(/^(sparse_experts_\w+)\{[^}]*\} (\S+)$/gm)].map(found => [
          found[1]!,
          Number(found[2]),
        ]),
      )
    const served = samplesOf(await server.text('/metrics'))
    const printed = samplesOf(metrics(server.layer))
    const shared = [...served.keys()].filter(name => printed.has(name))
    expect(shared.length).toBeGreaterThanOrEqual(13)
    for (const name of shared) expect(served.get(name), name).toBeCloseTo(printed.get(name)!, 9)
    const own = [...served.keys()].filter(name => !printed.has(name))
    expect(own.filter(name => !/_(bucket|sum|count)$/.test(name))).toEqual([])
  })

  it('counts requests by route and status, and calls by time and size', async () => {
    const sample = async (line: RegExp) => Number(line.exec(await server.text('/metrics'))?.[1] ?? 0)
    const forwards =
      /^http_request_duration_seconds_count\{method="POST",handler="\/forward",status="200"\} (\d+)$/m
    const calls = /^sparse_experts_iteration_tokens_count\{device="reference",layer="1"\} (\d+)$/m
    const tokens = /^sparse_experts_iteration_tokens_sum\{device="reference",layer="1"\} (\d+)$/m
    const waits = /^sparse_experts_request_queue_time_seconds_count\{device="reference",layer="1"\} (\d+)$/m
    const before = await Promise.all([forwards, calls, tokens, waits].map(sample))
    await server.binary(exampleRows(3))
    // A request is counted once its connection has heard of the end.
    await vi.waitFor(async () => expect(await sample(forwards)).toBe(before[0]! + 1))
    expect(await sample(calls)).toBe(before[1]! + 1)
    expect(await sample(tokens)).toBe(before[2]! + 3)
    expect(await sample(waits)).toBe(before[3]! + 1)
  })

  it('has one handler for all addresses that there are not', async () => {
    for (const name of ['a', 'b', 'c']) expect((await server.ask(`/${name}`)).status).toBe(404)
    const handlers = new Set(
      [...(await server.text('/metrics')).matchAll(/handler="([^"]*)",status="404"/g)].map(found => found[1]),
    )
    expect([...handlers]).toEqual(['none'])
  })
})

describe('spans', () => {
  interface Recorded {
    name: string
    attributes: Attributes
    start: number
    end: number
    status?: SpanStatus
    parent: Span | undefined
    span: Span
  }
  const recorded: Recorded[] = []

  /** As an SDK does it, in memory. */
  function startSpan(name: string, options: SpanOptions = {}, parent: Context = ROOT_CONTEXT): Span {
    const entry = {
      name,
      attributes: { ...options.attributes },
      start: Number(options.startTime),
      end: Number.NaN,
    } as Recorded
    const span = {
      isRecording: () => true,
      setAttribute(key: string, value: string) {
        entry.attributes[key] = value
        return span
      },
      setStatus(status: SpanStatus) {
        entry.status = status
        return span
      },
      end(time: number) {
        entry.end = time
      },
    } as unknown as Span
    recorded.push(Object.assign(entry, { span, parent: trace.getSpan(parent) }))
    return span
  }

  /** As @opentelemetry/context-async-hooks does it. */
  class AsyncContexts implements ContextManager {
    readonly #storage = new AsyncLocalStorage<Context>()
    active = () => this.#storage.getStore() ?? ROOT_CONTEXT
    with: ContextManager['with'] = (of, work, self, ...args) =>
      this.#storage.run(of, () => work.call(self as ThisParameterType<typeof work>, ...args))
    bind: ContextManager['bind'] = (_, target) => target
    enable = () => this
    disable = () => this
  }

  function record() {
    recorded.length = 0
    trace.setGlobalTracerProvider({ getTracer: () => ({ startSpan }) as never })
    context.setGlobalContextManager(new AsyncContexts())
  }
  afterEach(() => {
    trace.disable()
    context.disable()
  })
  const named = (name: string) => recorded.filter(span => span.name === `sparse_experts.${name}`)

  it('show of a call how long it waited and ran, with how many rows, and where', async () => {
    record()
    const began = Date.now()
    expect((await server.binary(exampleRows(2))).status).toBe(200)
    const [call, waiting, running] = ['forward', 'waiting', 'running'].map(name => named(name)[0])
    expect(call!.attributes).toMatchObject({
      'sparse_experts.device': 'reference',
      'sparse_experts.family': server.layer.config.family,
      'sparse_experts.rows': 2,
      'sparse_experts.batch_tokens': 2,
      'sparse_experts.non_finite_rows': 0,
    })
    expect(call!.attributes['sparse_experts.flops']).toBeGreaterThan(0)
    expect(waiting!.end - waiting!.start).toBeCloseTo(
      Number(call!.attributes['sparse_experts.waiting_ms']),
      2,
    )
    expect(running!.end - running!.start).toBeCloseTo(
      Number(call!.attributes['sparse_experts.running_ms']),
      2,
    )
    expect([waiting!.parent, running!.parent]).toEqual([call!.span, call!.span])
    // Clocks of one machine, rounded to a millisecond.
    expect(call!.start).toBeGreaterThanOrEqual(began - 1)
    expect(waiting!.start).toBe(call!.start)
    expect(running!.start).toBe(waiting!.end)
    expect(running!.end).toBeLessThanOrEqual(call!.end)
    expect(call!.status).toBeUndefined()
  })

  it('are children of the span that the call was made in, and say how a call failed', async () => {
    record()
    const request = startSpan('request')
    await context.with(trace.setSpan(ROOT_CONTEXT, request), async () => {
      const abort = new AbortController()
      const calls = [
        server.layer.forward(exampleRows(8), { signal: abort.signal }),
        server.layer.forward(exampleRows(1)),
      ]
      abort.abort(new RangeError('gone'))
      await Promise.allSettled(calls)
    })
    const [refused, aborted] = named('forward')
    expect([refused!.parent, aborted!.parent]).toEqual([request, request])
    expect(refused!.attributes).toMatchObject({
      'error.type': 'ERR_MOE_QUEUE_FULL',
      'sparse_experts.rows': 1,
    })
    expect(refused!.status).toEqual({
      code: SpanStatusCode.ERROR,
      message: expect.stringContaining('The queue holds 8 rows'),
    })
    expect(aborted!.attributes['error.type']).toBe('RangeError')
    expect(aborted!.status).toEqual({ code: SpanStatusCode.ERROR, message: 'gone' })
    expect(named('waiting')).toEqual([])
  })

  it('are none where no SDK is', async () => {
    recorded.length = 0
    expect((await server.binary(exampleRows(1))).status).toBe(200)
    expect(recorded).toEqual([])
  })
})
