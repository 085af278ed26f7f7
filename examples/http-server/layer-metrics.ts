/** The library's figures in a registry of prom-client, named as vLLM names its own: what the layers count, and how their calls spread. */

import { subscribe, unsubscribe } from 'node:diagnostics_channel'
import { Counter, Gauge, Histogram, type Registry } from 'prom-client'
import type { ForwardEvent, LayerStats, MoeLayer, MoeModel } from 'sparse-experts'

const PREFIX = 'sparse_experts_'
const CHANNEL = 'sparse-experts:forward'

type Figure = (stats: LayerStats) => number

/** Counted by the layer since it was made. */
const COUNTERS: readonly [name: string, help: string, figure: Figure][] = [
  ['request_success_total', 'Calls that finished', stats => stats.calls],
  ['request_failure_total', 'Calls that failed or were aborted', stats => stats.failedCalls],
  [
    'request_rejected_total',
    'Calls that were refused because the queue was full',
    stats => stats.rejectedCalls,
  ],
  ['batches_total', 'Forwards of the device that the finished calls took', stats => stats.batches],
  ['tokens_total', 'Rows of finished calls', stats => stats.tokens],
  ['flops_total', 'FLOPs of finished calls', stats => stats.flops],
]

/** Of now. */
const GAUGES: readonly [name: string, help: string, figure: Figure][] = [
  ['num_requests', 'Calls that wait or run', stats => stats.queueDepth],
  ['num_tokens', 'Rows of the calls that wait or run', stats => stats.queuedTokens],
  ['weights_host_bytes', 'Weights in memory of the host', stats => stats.hostBytes],
  ['weights_device_bytes', 'Weights in memory of the device', stats => stats.deviceBytes],
  [
    'experts_unused',
    'Experts that no row has reached',
    ({ tokensPerExpert }) => tokensPerExpert.filter(n => n === 0).length,
  ],
  [
    'expert_load_max_ratio',
    'Rows of the busiest expert over the mean of all; 1 is even',
    stats => loadRatio(stats),
  ],
]

function loadRatio({ tokensPerExpert }: LayerStats): number {
  const sum = tokensPerExpert.reduce((a, b) => a + b, 0)
  return sum === 0 ? 0 : (Math.max(...tokensPerExpert) * tokensPerExpert.length) / sum
}

/** Seconds that a queue and a forward take, from a decode step on a GPU to a long prompt on a CPU. */
const SECONDS = [0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1, 3, 10, 30]
const seconds = (milliseconds: number | undefined) =>
  milliseconds === undefined ? undefined : milliseconds / 1000

/** Of each call, from its event; undefined of calls that failed. */
const HISTOGRAMS: readonly {
  name: string
  help: string
  buckets: number[]
  figure: (event: ForwardEvent) => number | undefined
}[] = [
  {
    name: 'request_queue_time_seconds',
    help: 'Time that a finished call waited before the device began',
    buckets: SECONDS,
    figure: ({ waitingMs }) => seconds(waitingMs),
  },
  {
    name: 'request_inference_time_seconds',
    help: 'Time that the device took for a finished call',
    buckets: SECONDS,
    figure: ({ runningMs }) => seconds(runningMs),
  },
  {
    name: 'iteration_tokens',
    help: 'Rows that the device computed at once, seen by each finished call',
    buckets: [1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192],
    figure: ({ batchTokens }) => batchTokens,
  },
]

/**
 * Registers the figures of a model's layers. Each has the labels `device` and `layer`, however many experts and clients there are.
 * @returns a function that ends it, to be called once the model is not served any more
 */
export function registerModel(registry: Registry, model: MoeModel): () => void {
  const layers = model.layers.map(index => model.layer(index))
  const labelsOf = ({ device, index }: MoeLayer) => ({ device, layer: String(index) })
  const common = { labelNames: ['device', 'layer'], registers: [registry] }
  // prom-client calls `collect` at each scrape.
  for (const [name, help, figure] of COUNTERS) {
    new Counter({
      ...common,
      name: PREFIX + name,
      help,
      collect() {
        this.reset()
        for (const layer of layers) this.inc(labelsOf(layer), figure(layer.stats()))
      },
    })
  }
  for (const [name, help, figure] of GAUGES) {
    new Gauge({
      ...common,
      name: PREFIX + name,
      help,
      collect() {
        for (const layer of layers) this.set(labelsOf(layer), figure(layer.stats()))
      },
    })
  }
  new Gauge({
    ...common,
    name: `${PREFIX}device_healthy`,
    help: '1, or 0 once the device is lost to this process',
    collect() {
      for (const layer of layers) this.set(labelsOf(layer), layer.health().status === 'ready' ? 1 : 0)
    },
  })

  const histograms = HISTOGRAMS.map(({ name, help, buckets, figure }) => {
    const histogram = new Histogram({ ...common, name: PREFIX + name, help, buckets })
    return (event: ForwardEvent) => {
      const value = figure(event)
      if (value !== undefined) histogram.observe(labelsOf(event.layer), value)
    }
  })
  const ours = new Set<MoeLayer>(layers)
  const listener = (message: unknown) => {
    const event = message as ForwardEvent
    if (!ours.has(event.layer)) return
    for (const observe of histograms) observe(event)
  }
  subscribe(CHANNEL, listener)
  return () => void unsubscribe(CHANNEL, listener)
}
