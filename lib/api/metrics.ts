/** Layers' figures in Prometheus' text format. */

import { invalidArgType } from '../block/errors.js'
import type { LayerStats } from './layer-stats.js'
import { MoeLayer } from './moe-layer.js'
import { MoeModel } from './moe-model.js'

/** A layer of a snapshot, and the labels of its samples. */
interface Labelled {
  labels: Readonly<Record<string, string>>
  stats: LayerStats
  isHealthy: boolean
}

/** What {@link metrics} takes. */
type Measured = MoeLayer | MoeModel

type Sample = readonly [labels: Readonly<Record<string, string>>, value: number]

interface Metric {
  name: string
  type: 'counter' | 'gauge'
  help: string
  samples(layers: readonly Labelled[]): Sample[]
}

const PREFIX = 'sparse_experts_'

/** A sample of each layer. */
function ofLayers(
  type: Metric['type'],
  name: string,
  help: string,
  value: (stats: LayerStats) => number,
): Metric {
  return { name, type, help, samples: layers => layers.map(({ labels, stats }) => [labels, value(stats)]) }
}

/** A sample of each device. */
function ofDevices(name: string, help: string, value: (layers: readonly Labelled[]) => number): Metric {
  const samples = (layers: readonly Labelled[]): Sample[] => {
    const devices = [...new Set(layers.map(({ labels }) => labels.device!))]
    return devices.map(device => [{ device }, value(layers.filter(({ labels }) => labels.device === device))])
  }
  return { name, type: 'gauge', help, samples }
}

const METRICS: readonly Metric[] = [
  ofLayers('gauge', 'num_requests', 'Calls that wait or run', stats => stats.queueDepth),
  ofLayers('gauge', 'num_tokens', 'Rows of the calls that wait or run', stats => stats.queuedTokens),
  ofLayers('counter', 'request_success_total', 'Calls that finished', stats => stats.calls),
  ofLayers(
    'counter',
    'request_failure_total',
    'Calls that failed or were aborted',
    stats => stats.failedCalls,
  ),
  ofLayers(
    'counter',
    'request_rejected_total',
    'Calls that were refused because the queue was full',
    stats => stats.rejectedCalls,
  ),
  ofLayers(
    'counter',
    'batches_total',
    'Forwards of the device that the finished calls took',
    stats => stats.batches,
  ),
  ofLayers('counter', 'tokens_total', 'Rows of finished calls', stats => stats.tokens),
  ofLayers(
    'counter',
    'request_queue_time_seconds_total',
    'Time that calls waited before they began, summed over calls',
    stats => stats.waitingSeconds,
  ),
  ofLayers(
    'counter',
    'inference_time_seconds_total',
    'Time that the device took for calls, calls that ran as one counted once',
    stats => stats.runningSeconds,
  ),
  {
    name: 'phase_time_seconds_total',
    type: 'counter',
    help: 'Time of forwards by phase, on devices that measure it',
    samples: layers =>
      layers.flatMap(({ labels, stats }) =>
        Object.entries(stats.phaseSeconds ?? {}).map(
          ([phase, seconds]): Sample => [{ ...labels, phase }, seconds],
        ),
      ),
  },
  ofLayers('counter', 'flops_total', 'FLOPs of finished calls', stats => stats.flops),
  ofLayers(
    'counter',
    'dense_flops_total',
    'FLOPs that layers of all the experts would have taken for these calls',
    stats => stats.denseFlops,
  ),
  ofLayers(
    'gauge',
    'expert_load_max_ratio',
    'Rows of the busiest expert over the mean of all, since the layer was made; 1 is even, 0 before the first call',
    ({ tokensPerExpert }) => {
      const sum = tokensPerExpert.reduce((total, tokens) => total + tokens, 0)
      return sum === 0 ? 0 : (tokensPerExpert.reduce((a, b) => Math.max(a, b)) * tokensPerExpert.length) / sum
    },
  ),
  ofLayers(
    'gauge',
    'experts_unused',
    'Experts that no row has reached since the layer was made',
    ({ tokensPerExpert }) => tokensPerExpert.filter(tokens => tokens === 0).length,
  ),
  ofLayers('gauge', 'weights_host_bytes', 'Weights in memory of the host', stats => stats.hostBytes),
  ofLayers('gauge', 'weights_device_bytes', 'Weights in memory of the device', stats => stats.deviceBytes),
  ofDevices('workspace_bytes', 'Scratch of forwards, which all layers of a device share', layers =>
    Math.max(...layers.map(({ stats }) => stats.workspaceBytes)),
  ),
  ofDevices('device_healthy', '1, or 0 once the device is lost to this process', layers =>
    layers.every(({ isHealthy }) => isHealthy) ? 1 : 0,
  ),
]

/**
 * What layers count, as the body of a `/metrics` answer (`Content-Type: text/plain; version=0.0.4`). Each sample carries `layer` and `device`
 * (some `phase`, those of a whole device only `device`), so there are some twenty of them for each layer, however many experts it has.
 *
 * @param layers a layer or a model, or several of them, in a list or by name. The label `layer` is the name, or the place in the list; of a
 * layer of a model its index, behind the model's name and a dot where there is one
 * @throws TypeError ERR_MOE_INVALID_ARG_TYPE
 * @example
 * response.setHeader('Content-Type', 'text/plain; version=0.0.4').end(metrics({ 'decoder.1': layer }))
 */
export function metrics(layers: Measured | readonly Measured[] | Readonly<Record<string, Measured>>): string {
  const snapshot = named(layers).map(
    ([layer, of]): Labelled => ({
      labels: { layer, device: of.device },
      stats: of.stats(),
      isHealthy: of.health().status === 'ready',
    }),
  )
  return METRICS.map(metric => print(metric, metric.samples(snapshot))).join('')
}

/** Each layer by its label. */
function named(layers: unknown): [string, MoeLayer][] {
  if (layers instanceof MoeLayer) return [['0', layers]]
  if (layers instanceof MoeModel) return layersOf(layers)
  if (typeof layers !== 'object' || layers === null)
    throw invalidArgType(
      'layers',
      'a MoeLayer, a MoeModel, a list of them, or an object of them by name',
      layers,
    )
  return Object.entries(layers).flatMap(([name, of]: [string, unknown]): [string, MoeLayer][] => {
    if (of instanceof MoeLayer) return [[name, of]]
    if (of instanceof MoeModel) return layersOf(of, `${name}.`)
    throw invalidArgType(`layers.${name}`, 'a MoeLayer or a MoeModel', of)
  })
}

const layersOf = (model: MoeModel, prefix = ''): [string, MoeLayer][] =>
  model.layers.map(index => [`${prefix}${index}`, model.layer(index)])

function print({ name, type, help }: Metric, samples: readonly Sample[]): string {
  if (samples.length === 0) return ''
  const full = PREFIX + name
  const lines = samples.map(([labels, value]) => `${full}{${printLabels(labels)}} ${value}\n`)
  return `# HELP ${full} ${help}\n# TYPE ${full} ${type}\n${lines.join('')}`
}

function printLabels(labels: Readonly<Record<string, string>>): string {
  return Object.entries(labels)
    .map(
      ([name, value]) =>
        `${name}="${value.replace(/[\\"\n]/g, char => (char === '\n' ? '\\n' : `\\${char}`))}"`,
    )
    .join(',')
}
