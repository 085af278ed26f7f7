/** Counters of a layer in Prometheus' text format. Loads of single experts are summed up: a series per expert would be too many. */

import type { MoeLayer } from 'sparse-experts'

/** name, type, help, value */
type Metric = [string, 'counter' | 'gauge', string, number]

/** @param heldBytes of all requests, in bytes */
export function renderMetrics(layer: MoeLayer, heldBytes: number): string {
  const stats = layer.stats()
  const load = stats.tokensPerExpert
  const busiest = load.reduce((a, b) => Math.max(a, b), 0)
  const mean = load.reduce((a, b) => a + b, 0) / load.length
  const metrics: Metric[] = [
    ['calls_total', 'counter', 'Forwards that finished.', stats.calls],
    ['failed_calls_total', 'counter', 'Forwards that failed or were aborted.', stats.failedCalls],
    ['tokens_total', 'counter', 'Rows of finished forwards.', stats.tokens],
    ['flops_total', 'counter', 'Floating-point operations of finished forwards.', stats.flops],
    ['dense_flops_total', 'counter', 'What dense layers would have taken.', stats.denseFlops],
    ['queue_calls', 'gauge', 'Calls that wait or run.', stats.queueDepth],
    ['queue_tokens', 'gauge', 'Their rows.', stats.queuedTokens],
    ['held_bytes', 'gauge', 'Bodies, inputs and outputs of requests that are not answered.', heldBytes],
    ['host_bytes', 'gauge', 'Weights and workspace in host memory.', stats.hostBytes],
    ['device_bytes', 'gauge', 'Weights and workspace in device memory.', stats.deviceBytes],
    ['active_experts', 'gauge', 'Experts that have had a token.', load.filter(tokens => tokens > 0).length],
    [
      'balancedness',
      'gauge',
      'Mean over max of tokens per expert; 1 is even.',
      busiest === 0 ? 1 : mean / busiest,
    ],
  ]
  const lines = metrics.flatMap(([name, type, help, value]) => [
    `# HELP sparse_experts_${name} ${help}`,
    `# TYPE sparse_experts_${name} ${type}`,
    `sparse_experts_${name}{device="${layer.device}"} ${value}`,
  ])
  return `${lines.join('\n')}\n`
}
