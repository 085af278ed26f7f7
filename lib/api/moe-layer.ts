/** One mixture-of-experts block on a device: loaded from a checkpoint or made from arrays, run call by call. */

import { channel } from 'node:diagnostics_channel'
import type { ActivationsOption } from '../block/activations.js'
import type { MoeConfig, ResolvedMoeConfig } from '../block/config.js'
import { countWork, countWorkOf, type UnitCosts, unitCosts, type Work } from '../block/cost.js'
import type { DType } from '../block/dtype.js'
import { invalidArgType, invalidArgValue, MoeError } from '../block/errors.js'
import { resolveConfig } from '../block/resolve.js'
import type { LayerWeightFormat } from '../block/weight-format.js'
import type { MoeWeights } from '../block/weights.js'
import type { LayerPlan } from '../checkpoint/plan/layer-plan.js'
import { OpenedModel } from '../checkpoint/plan/opened-model.js'
import type { CallTimes, LayerRuntime } from '../devices/contract.js'
import { createRuntime } from '../devices/create.js'
import { type ChosenDevice, chooseDevice } from '../devices/device.js'
import { loadRuntimes } from '../devices/load.js'
import { measureLayer } from '../devices/measure.js'
import type { CacheOptions } from './cache-options.js'
import { cacheShare, checkCacheDevice, warmExperts } from './cached-layers.js'
import { CallQueue, type QueueBound } from './call-queue.js'
import type { HiddenStates } from './float-input.js'
import {
  disposedError,
  type ForwardOptions,
  type PreparedForward,
  prepareForward,
} from './forward-arguments.js'
import { explainForward, type ForwardPlan } from './forward-plan.js'
import { type ForwardResult, flaggedRows } from './forward-result.js'
import {
  checkLayerOptions,
  checkLoadOptions,
  dtypeOf,
  type LayerOptions,
  type LoadOptions,
  queueBound,
  runtimeOptions,
} from './layer-options.js'
import { type LayerStats, StatsCounter } from './layer-stats.js'
import { leaseBuffers } from './leases.js'
import { announce, Recorder, type RecordOptions } from './recorder.js'

/** Message on the `sparse-experts:forward` diagnostics channel. */
export interface ForwardEvent {
  layer: MoeLayer
  device: string
  family: string
  numTokens: number
  /** From the call to its end, waiting included. */
  durationMs: number
  /** Of it, in the queue until the device began. With {@link runningMs} absent of calls that failed, were refused, or are synchronous. */
  waitingMs?: number
  /** Of it, on the device. What is left was copying, and waiting for a turn of the event loop. */
  runningMs?: number
  /** Rows that the device computed at once: this call's, and those of calls that ran as one with it. */
  batchTokens?: number
  /** Absent when the call failed. */
  work?: Work
  nonFiniteRows?: number
  /** What the call rejected with: a failure, `signal.reason`, or ERR_MOE_QUEUE_FULL of a call that was not accepted. */
  error?: unknown
}

export type LayerHealth = { status: 'ready' } | { status: 'failed'; cause: MoeError }

const forwardChannel = channel('sparse-experts:forward')

/** @internal A layer that a device has loaded, and its place in the checkpoint; layers of a model share their bound. */
export let layerOf: (runtime: LayerRuntime, bound: QueueBound, index: number) => MoeLayer

/** A sparse mixture-of-experts block. */
export class MoeLayer {
  /** Decoder layer of the checkpoint; null where the layer was made from arrays. */
  readonly index: number | null
  /** The block's description with every default written out; frozen. */
  readonly config: Readonly<ResolvedMoeConfig>
  /** 'reference', 'cpu', 'cuda:0' … */
  readonly device: string
  /** Arithmetic of the expert matmuls, and what a `Uint16Array` of hidden states holds. */
  readonly dtype: DType
  /** How rows are multiplied by matrices that are held as integers. */
  readonly activations: ActivationsOption
  /** What each matrix was stored as, what is held for each weight, and the bits per weight; a list where experts differ. */
  readonly weightFormat: LayerWeightFormat

  readonly #runtime: LayerRuntime
  readonly #stats: StatsCounter
  readonly #calls: CallQueue
  readonly #unit: UnitCosts
  readonly #isCached: boolean
  #disposed = false
  #failure: MoeError | null = null

  private constructor(runtime: LayerRuntime, bound: QueueBound, index: number | null) {
    this.#runtime = runtime
    this.index = index
    this.config = runtime.config
    this.device = runtime.device
    this.dtype = runtime.dtype
    this.activations = runtime.activations
    this.weightFormat = runtime.weightFormat
    this.#unit = unitCosts(this.config, this.weightFormat)
    this.#isCached = runtime.cache() !== null
    this.#stats = new StatsCounter(runtime.config.numExperts)
    this.#calls = new CallQueue(runtime, bound)
  }

  static {
    layerOf = (runtime, bound, index) => new MoeLayer(runtime, bound, index)
  }

  /**
   * Reads one layer of a checkpoint as published: a directory of `config.json` with `model.safetensors`, or with
   * `model.safetensors.index.json` and its shards; or a GGUF file, of a split one the first shard. Only the bytes of that layer are read,
   * once, into their final place.
   *
   * @param source the directory, or the GGUF file, which is known by its first four bytes
   * @throws {@link MoeError} ERR_MOE_NOT_SPARSE, ERR_MOE_UNSUPPORTED_FAMILY, ERR_MOE_UNSUPPORTED_FORMAT, ERR_MOE_INVALID_CONFIG,
   * ERR_MOE_INVALID_CHECKPOINT, ERR_MOE_MISSING_TENSOR, ERR_MOE_TENSOR_MISMATCH, ERR_MOE_IO, ERR_MOE_DEVICE_UNAVAILABLE,
   * ERR_MOE_OUT_OF_MEMORY, ERR_MOE_CACHE_TOO_SMALL, ERR_MOE_UNSUPPORTED_OPTION; or rejects with `signal.reason`
   * @example
   * const layer = await MoeLayer.load('models/DeepSeek-V2-Lite', { layer: 1 })
   * const quantised = await MoeLayer.load('models/Qwen3-30B-A3B-Q4_K_M.gguf')
   */
  static async load(source: string, options: LoadOptions = {}): Promise<MoeLayer> {
    if (typeof source !== 'string') throw invalidArgType('source', 'a string', source)
    checkLoadOptions(options)
    const { module, config, signal } = options
    signal?.throwIfAborted()
    const device = chooseDevice(options.device ?? 'auto')
    const opened = await OpenedModel.open(source, { module, config, signal })
    try {
      return await loadLayerFrom(opened, device, options)
    } finally {
      await opened.close()
    }
  }

  /**
   * Makes a layer from typed arrays, which are copied.
   *
   * @throws TypeError and RangeError with ERR_MOE_INVALID_ARG_* for a config or weights that do not fit together
   * @throws {@link MoeError} ERR_MOE_DEVICE_UNAVAILABLE, ERR_MOE_OUT_OF_MEMORY
   */
  static create(
    config: MoeConfig | ResolvedMoeConfig,
    weights: MoeWeights,
    options: LayerOptions = {},
  ): MoeLayer {
    checkLayerOptions(options)
    const resolved = resolveConfig(config)
    const device = chooseDevice(options.device ?? 'auto')
    const dtype = options.dtype === undefined ? 'auto' : options.dtype
    const runtime = createRuntime(device, resolved, dtype, weights, runtimeOptions(options))
    return new MoeLayer(runtime, queueBound(options), null)
  }

  /** `true` once {@link dispose} was called. */
  get isDisposed(): boolean {
    return this.#disposed
  }

  /**
   * Runs the block on its device without blocking the event loop. Calls on one layer run in the order they were made. Arrays given here
   * are borrowed until the promise settles: do not write, transfer or resize them before.
   *
   * @param hiddenStates `[numTokens, hiddenSize]` row-major; numTokens follows from the length, 0 is valid
   * @returns a promise; rejects with `signal.reason` after an abort
   * @throws (as rejection) TypeError and RangeError with ERR_MOE_INVALID_ARG_*, ERR_MOE_UNKNOWN_OPTION, ERR_MOE_MISSING_INPUT;
   * {@link MoeError} ERR_MOE_DISPOSED, ERR_MOE_QUEUE_FULL, ERR_MOE_BUFFER_BUSY, ERR_MOE_BUFFER_DETACHED, ERR_MOE_OUT_OF_MEMORY,
   * ERR_MOE_DEVICE_LOST; ERR_MOE_IO where an expert of a layer with a `cache` cannot be read
   */
  async forward<H extends HiddenStates>(
    hiddenStates: H,
    options: ForwardOptions = {},
  ): Promise<ForwardResult<H>> {
    const began = performance.now()
    const prepared = this.#prepare(hiddenStates, options)
    let times: CallTimes
    try {
      times = await this.#calls.run(prepared, options.signal, reason => {
        this.#recordFailure(reason)
        this.#publish(prepared.request.numTokens, began, { error: reason })
      })
    } catch (error) {
      prepared.discard()
      throw error
    }
    return this.#finish(prepared, began, times, times.fetchedBytes)
  }

  /**
   * Runs the block on the calling thread (with the device's threads beside it) and returns when it is done: for scripts, tests and
   * worker threads. It does not wait for queued asynchronous calls, only for the one that is running.
   *
   * @throws what {@link forward} rejects with
   */
  forwardSync<H extends HiddenStates>(
    hiddenStates: H,
    options: Omit<ForwardOptions, 'signal'> = {},
  ): ForwardResult<H> {
    const began = performance.now()
    if (options && (options as ForwardOptions).signal !== undefined) {
      throw invalidArgValue('signal', 'no signal (a synchronous call cannot be aborted)', 'one')
    }
    const prepared = this.#prepare(hiddenStates, options)
    let fetchedBytes = 0
    try {
      const lease = leaseBuffers(prepared.uses)
      try {
        fetchedBytes = this.#runtime.forwardSync(prepared.request)
      } catch (error) {
        this.#recordFailure(error)
        this.#publish(prepared.request.numTokens, began, { error })
        throw error
      } finally {
        lease.release()
      }
    } catch (error) {
      prepared.discard()
      throw error
    }
    return this.#finish(prepared, began, null, fetchedBytes)
  }

  /** Counters since the layer was made, and what it holds now. */
  stats(): LayerStats {
    const memory = this.#disposed
      ? { hostBytes: 0, deviceBytes: 0, workspaceBytes: 0 }
      : this.#runtime.memory()
    return this.#stats.snapshot({
      ...memory,
      phaseSeconds: this.#disposed ? null : this.#runtime.phases(),
      cache: this.#disposed ? null : this.#runtime.cache(),
      queueDepth: this.#calls.depth,
      queuedTokens: this.#calls.queuedTokens,
    })
  }

  /** `ready`, or `failed` with the cause once the device is lost; a failed layer stays failed. */
  health(): LayerHealth {
    this.#failure ??= this.#runtime.loss()
    return this.#failure ? { status: 'failed', cause: this.#failure } : { status: 'ready' }
  }

  /** Which kernel a forward of `numTokens` uses per stage, its workspace, and the bytes and FLOPs to expect under uniform routing. */
  explain(numTokens: number): ForwardPlan {
    if (this.#disposed) throw disposedError()
    return explainForward(this.#runtime, numTokens)
  }

  /**
   * Records which experts the forwards of this layer need from now on, until the recorder is closed: the input of {@link simulate}.
   *
   * @param directory where the trace is written; made where it is not there, and must hold no trace yet
   * @throws TypeError and RangeError with ERR_MOE_INVALID_ARG_*, ERR_MOE_UNKNOWN_OPTION; {@link MoeError} ERR_MOE_IO, ERR_MOE_DISPOSED
   * @example
   * await using recorder = layer.record('trace')
   */
  record(directory: string, options: RecordOptions = {}): Recorder {
    if (this.#disposed) throw disposedError()
    return new Recorder(directory, [this], options)
  }

  /**
   * Frees the weights. Idempotent and immediate for the caller: later calls fail with ERR_MOE_DISPOSED, calls that were accepted before
   * still finish, and the memory goes when the last of them has.
   */
  dispose(): void {
    if (this.#disposed) return
    this.#disposed = true
    this.#calls.dispose()
  }

  [Symbol.dispose](): void {
    this.dispose()
  }

  /** Disposes and waits for the accepted calls. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.dispose()
    await this.#calls.idle()
  }

  #prepare(hiddenStates: HiddenStates, options: ForwardOptions): PreparedForward {
    if (this.#disposed) throw disposedError()
    if (this.#failure) throw this.#failure
    return prepareForward(this.config, this.dtype, this.device, hiddenStates, options)
  }

  #finish<H extends HiddenStates>(
    { request, output, rows }: PreparedForward,
    began: number,
    times: CallTimes | null,
    fetchedBytes: number,
  ): ForwardResult<H> {
    const { numTokens, topkIds, topkWeights, nonFinite, replay } = request
    const counted = countWork(this.config, this.#unit, topkIds, numTokens, !replay, topkWeights)
    const work = this.#isCached ? { ...counted, fetchedBytes } : counted
    const nonFiniteRows = flaggedRows(nonFinite)
    this.#stats.add(numTokens, work, times)
    const isJoined = times !== null && !times.isFirst
    announce(this, { topkIds, topkWeights, began, gateRan: !replay, isJoined })
    this.#publish(numTokens, began, { work, nonFiniteRows: nonFiniteRows.length }, times)
    const result = { output: output as H, numTokens, topkIds, topkWeights, nonFiniteRows, work }
    if (!rows) return result
    const workOf = countWorkOf(this.config, this.#unit, topkIds, rows, !replay, topkWeights)
    return { ...result, workOf }
  }

  #recordFailure(error: unknown): void {
    const code = error instanceof MoeError ? error.code : undefined
    if (code === 'ERR_MOE_DEVICE_LOST') this.#failure ??= error as MoeError
    if (code === 'ERR_MOE_QUEUE_FULL') this.#stats.addRejection()
    else this.#stats.addFailure()
  }

  #publish(
    numTokens: number,
    began: number,
    outcome: Pick<ForwardEvent, 'work' | 'nonFiniteRows' | 'error'>,
    times: CallTimes | null = null,
  ): void {
    if (!forwardChannel.hasSubscribers) return
    const event: ForwardEvent = {
      layer: this,
      device: this.device,
      family: this.config.family,
      numTokens,
      durationMs: performance.now() - began,
      ...(times && { waitingMs: times.waitedMs, runningMs: times.ranMs, batchTokens: times.batchTokens }),
      ...outcome,
    }
    forwardChannel.publish(event)
  }
}

/** @internal Of a checkpoint that is open. Options are checked. */
export async function loadLayerFrom(
  opened: OpenedModel,
  device: ChosenDevice,
  options: LoadOptions,
): Promise<MoeLayer> {
  const { layer, cache, signal, onProgress } = options
  if (cache) checkCacheDevice(device, cache)
  const plan = await opened.plan(layer, signal)
  signal?.throwIfAborted()
  const dtype = dtypeOf(options, plan.storedDtype)
  const own = { ...runtimeOptions(options), cache: cacheShare(cache, 1) }
  const warm =
    cache?.profile === undefined ? undefined : await warmOf(device, plan, dtype, own, cache, signal)
  const common = { ...own, reservedTokens: 0, signal, onProgress }
  const [runtime] = await loadRuntimes([{ plan, device, dtype, warm }], common)
  return layerOf(runtime!, queueBound(options), plan.layer)
}

/** The experts that a cache's profile has loaded with the layer. */
async function warmOf(
  device: ChosenDevice,
  plan: LayerPlan,
  dtype: DType,
  options: Omit<Parameters<typeof measureLayer>[3], 'numTokens'>,
  cache: CacheOptions,
  signal: AbortSignal | undefined,
): Promise<Int32Array | undefined> {
  const { expertBytes } = measureLayer(device, plan, dtype, { ...options, numTokens: 1 })
  const { numExperts, topK } = plan.config
  const [warm] = await warmExperts(cache, [{ layer: plan.layer, numExperts, topK, expertBytes }], signal)
  return warm
}
