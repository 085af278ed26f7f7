/**
 * A span for each call of a layer, made from the library's events. Only OpenTelemetry's API is needed: without an SDK in the process its
 * spans record nothing and cost next to nothing. An SDK is loaded before the server (`node --import`) and brings spans of HTTP requests;
 * those of calls are their children.
 */

import { subscribe, unsubscribe } from 'node:diagnostics_channel'
import { context, type Span, SpanStatusCode, trace } from '@opentelemetry/api'
import type { ForwardEvent } from 'sparse-experts'

const CHANNEL = 'sparse-experts:forward'

/** Begins. @returns a function that ends it */
export function traceCalls(): () => void {
  const listener = (message: unknown) => recordCall(message as ForwardEvent)
  subscribe(CHANNEL, listener)
  return () => void unsubscribe(CHANNEL, listener)
}

/** The event comes when the call has ended, in the context of who called: its span begins in the past. */
function recordCall(event: ForwardEvent): void {
  const tracer = trace.getTracer('sparse-experts')
  // Milliseconds since 1970, with fractions.
  const end = performance.timeOrigin + performance.now()
  const start = end - event.durationMs
  const parent = context.active()
  const span = tracer.startSpan(
    'sparse_experts.forward',
    { startTime: start, attributes: attributesOf(event) },
    parent,
  )
  if (span.isRecording()) {
    const { waitingMs, runningMs, error } = event
    if (waitingMs !== undefined && runningMs !== undefined) {
      const inside = trace.setSpan(parent, span)
      const began = start + waitingMs
      tracer.startSpan('sparse_experts.waiting', { startTime: start }, inside).end(began)
      tracer.startSpan('sparse_experts.running', { startTime: began }, inside).end(began + runningMs)
    }
    if ('error' in event) setError(span, error)
  }
  span.end(end)
}

/** Times in milliseconds. What a call that failed has not is left out. */
function attributesOf(event: ForwardEvent) {
  const { device, family, numTokens, waitingMs, runningMs, batchTokens, work, nonFiniteRows } = event
  return {
    'sparse_experts.device': device,
    'sparse_experts.family': family,
    'sparse_experts.rows': numTokens,
    'sparse_experts.batch_tokens': batchTokens,
    'sparse_experts.waiting_ms': waitingMs,
    'sparse_experts.running_ms': runningMs,
    'sparse_experts.flops': work?.flops,
    'sparse_experts.non_finite_rows': nonFiniteRows,
  }
}

/** By the conventions, `error.type` is a code of few values, and the message is in the status. */
function setError(span: Span, error: unknown): void {
  const { code, name, message } = Object(error) as { code?: unknown; name?: string; message?: string }
  span.setAttribute('error.type', typeof code === 'string' ? code : (name ?? 'unknown'))
  span.setStatus({ code: SpanStatusCode.ERROR, message: message ?? String(error) })
}
