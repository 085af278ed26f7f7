/** The layers of a checkpoint that have experts, as one object: loaded together, run one by one. */

import { invalidArgType, invalidArgValue } from '../block/errors.js'
import { poolNumbers } from '../block/expert-cache.js'
import type { LayerPlan } from '../checkpoint/plan/layer-plan.js'
import { OpenedModel } from '../checkpoint/plan/opened-model.js'
import { type ChosenDevice, chooseDevice } from '../devices/device.js'
import { loadRuntimes } from '../devices/load.js'
import type { CacheOptions } from './cache-options.js'
import { cacheShare, checkCacheDevice, warmExperts } from './cached-layers.js'
import type { HiddenStates } from './float-input.js'
import { disposedError, type ForwardOptions } from './forward-arguments.js'
import type { ForwardResult } from './forward-result.js'
import { queueBound, runtimeOptions } from './layer-options.js'
import {
  checkModelOptions,
  deviceOptions,
  type ModelOptions,
  maxTokensOf,
  selectLayers,
} from './model-options.js'
import { assignDevices, type ModelPlan, ModelPlanner, requireFit } from './model-plan.js'
import { type ModelStats, modelStats } from './model-stats.js'
import { type LayerHealth, layerOf, type MoeLayer } from './moe-layer.js'
import { Recorder, type RecordOptions } from './recorder.js'

let modelOf: (layers: readonly MoeLayer[], plan: ModelPlan) => MoeModel

/** Layers with experts of one checkpoint. */
export class MoeModel {
  /** Decoder layers that it holds, in rising order. */
  readonly layers: readonly number[]
  /** What was planned when it was loaded. */
  readonly plan: Readonly<ModelPlan>
  readonly #layers: ReadonlyMap<number, MoeLayer>
  #disposed = false

  private constructor(layers: readonly MoeLayer[], plan: ModelPlan) {
    this.#layers = new Map(layers.map(layer => [layer.index!, layer]))
    this.layers = Object.freeze([...this.#layers.keys()])
    this.plan = Object.freeze(plan)
  }

  static {
    modelOf = (layers, plan) => new MoeModel(layers, plan)
  }

  /**
   * Loads layers of a checkpoint, all of them or none. What they will take is compared with what is free, on the host and on every device, before
   * a weight is read. Then each layer gets its memory, each device its scratch, and one load reads the files from their beginnings to their
   * ends, however many layers there are.
   *
   * @param source as in {@link MoeLayer.load}
   * @throws (as rejection) what {@link MoeLayer.load} rejects with; {@link MoeError} ERR_MOE_OUT_OF_MEMORY before anything is read, with
   * `details` {memory, neededBytes, freeBytes, weightBytes, workspaceBytes, loadingBytes}; ERR_MOE_UNSUPPORTED_OPTION; ERR_MOE_CACHE_TOO_SMALL with
   * `details` {neededBytes, cacheBytes, layer}
   * @example
   * await using model = await MoeModel.load('models/DeepSeek-V2-Lite', { maxTokens: 512 })
   * for (const index of model.layers) hidden = (await model.forward(index, hidden)).output
   */
  static async load(source: string, options: ModelOptions = {}): Promise<MoeModel> {
    return withOpened(source, options, opened => loadModelFrom(opened, options))
  }

  /**
   * What {@link load} with the same options will take, from headers alone.
   *
   * @throws (as rejection) what {@link load} rejects with, but not for a lack of memory: that is `fits` and `reasons` of the plan
   */
  static async plan(source: string, options: ModelOptions = {}): Promise<ModelPlan> {
    return withOpened(source, options, opened => planModelFrom(opened, options))
  }

  /** `true` once {@link dispose} was called. */
  get isDisposed(): boolean {
    return this.#disposed
  }

  /**
   * A layer of the model, which owns it. Disposing of the layer by itself is safe: its weights go, calls of it reject with ERR_MOE_DISPOSED, and
   * the other layers stay as they are.
   *
   * @param index decoder layer, one of {@link layers}
   * @throws RangeError ERR_MOE_INVALID_ARG_VALUE for any other
   */
  layer(index: number): MoeLayer {
    const layer = this.#layers.get(index)
    if (layer) return layer
    if (typeof index !== 'number') throw invalidArgType('index', 'a number', index)
    throw invalidArgValue('index', `a layer that the model holds (${this.layers.join(', ')})`, index)
  }

  /**
   * Runs one layer: `model.layer(index).forward(hiddenStates, options)`. Calls of one layer run in the order they were made; calls of different
   * layers of a device take turns.
   *
   * @throws (as rejection) what {@link layer} throws and {@link MoeLayer.forward} rejects with
   */
  async forward<H extends HiddenStates>(
    index: number,
    hiddenStates: H,
    options: ForwardOptions = {},
  ): Promise<ForwardResult<H>> {
    return this.layer(index).forward(hiddenStates, options)
  }

  /** Sums over the layers, and the counters of each. */
  stats(): ModelStats {
    return modelStats(this.#layers)
  }

  /** `ready`, or `failed` with the cause of the first layer whose device is lost. */
  health(): LayerHealth {
    for (const layer of this.#layers.values()) {
      const health = layer.health()
      if (health.status === 'failed') return health
    }
    return { status: 'ready' }
  }

  /**
   * Records which experts the forwards of all layers need, in one trace, as {@link MoeLayer.record} does of one.
   *
   * @throws what {@link MoeLayer.record} throws
   * @example
   * await using recorder = model.record('trace')
   */
  record(directory: string, options: RecordOptions = {}): Recorder {
    if (this.#disposed) throw disposedError()
    return new Recorder(directory, [...this.#layers.values()], options)
  }

  /** Disposes of all layers, each as {@link MoeLayer.dispose} does. */
  dispose(): void {
    this.#disposed = true
    for (const layer of this.#layers.values()) layer.dispose()
  }

  [Symbol.dispose](): void {
    this.dispose()
  }

  /** Disposes and waits for the accepted calls. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.dispose()
    await Promise.all([...this.#layers.values()].map(layer => layer[Symbol.asyncDispose]()))
  }
}

async function withOpened<Result>(
  source: string,
  options: ModelOptions,
  body: (opened: OpenedModel) => Promise<Result>,
): Promise<Result> {
  if (typeof source !== 'string') throw invalidArgType('source', 'a string', source)
  checkModelOptions(options)
  const { module, config, signal } = options
  signal?.throwIfAborted()
  const opened = await OpenedModel.open(source, { module, config, signal })
  try {
    return await body(opened)
  } finally {
    await opened.close()
  }
}

/** @internal Of a checkpoint that is open. Options are checked. */
export async function loadModelFrom(opened: OpenedModel, options: ModelOptions): Promise<MoeModel> {
  const { signal, onProgress } = options
  const places = await placeLayers(opened, options)
  const planner = new ModelPlanner(options, places.length)
  const layers = places.map(({ plan, device }) => ({ plan, device, dtype: planner.add(device, plan) }))
  const plan = planner.finish()
  requireFit(plan)
  const cache = cacheShare(options.cache, places.length)
  const common = {
    ...{ ...runtimeOptions(options), reservedTokens: maxTokensOf(options), cache },
    ...{ signal, onProgress },
  }
  const cached = options.cache ? await cachedParts(options.cache, layers.map(cachedLayer(plan)), signal) : []
  const runtimes = await loadRuntimes(
    layers.map((layer, i) => ({ ...layer, ...cached[i] })),
    common,
  )
  const bound = queueBound(options)
  const made = runtimes.map((runtime, i) => layerOf(runtime, bound, layers[i]!.plan.layer))
  return modelOf(made, plan)
}

/** What each layer is told of a cache beside its share. */
async function cachedParts(
  cache: CacheOptions,
  layers: Parameters<typeof warmExperts>[1],
  signal: AbortSignal | undefined,
): Promise<{ warm: Int32Array | undefined; pool: number }[]> {
  const pools = poolNumbers(layers, cache.scope ?? 'layer')
  const warm = await warmExperts(cache, layers, signal)
  return layers.map((_, i) => ({ warm: warm[i], pool: pools[i]! }))
}

/** What the division of a cache asks of the layers of a plan. */
const cachedLayer =
  ({ layers }: ModelPlan) =>
  ({ plan }: { plan: LayerPlan }, index: number) => {
    const { numExperts, topK } = plan.config
    const { expertBytes, device } = layers[index]!
    return { layer: plan.layer, numExperts, topK, expertBytes, device }
  }

/** @internal Of a checkpoint that is open. Options are checked. */
export async function planModelFrom(opened: OpenedModel, options: ModelOptions): Promise<ModelPlan> {
  const places = await placeLayers(opened, options)
  const planner = new ModelPlanner(options, places.length)
  for (const { plan, device } of places) planner.add(device, plan)
  return planner.finish()
}

/** The plans of the layers that are meant, and the device of each. */
async function placeLayers(
  opened: OpenedModel,
  options: ModelOptions,
): Promise<{ plan: LayerPlan; device: ChosenDevice }[]> {
  const { signal } = options
  const chosen = deviceOptions(options).map(chooseDevice)
  if (options.cache) for (const device of chosen) checkCacheDevice(device, options.cache)
  const plans: LayerPlan[] = []
  // Where no layer has experts, planning the first that has says so.
  const indices = opened.sparse.length > 0 ? selectLayers(options.layers, opened.sparse) : [undefined]
  for (const index of indices) plans.push(await opened.plan(index, signal))
  signal?.throwIfAborted()
  const places = assignDevices(
    plans.map(({ totalBytes }) => totalBytes),
    chosen.length,
  )
  return plans.map((plan, i) => ({ plan, device: chosen[places[i]!]! }))
}
