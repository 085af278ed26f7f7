/** Records which experts the calls of layers need: the input of `simulate`. */

import type { ResolvedMoeConfig } from '../block/config.js'
import { type DType, fromFloat32 } from '../block/dtype.js'
import { checkOptionKeys, invalidArgType, invalidArgValue, MoeError } from '../block/errors.js'
import type { LayerWeightFormat } from '../block/weight-format.js'
import { traceLayer } from '../trace/describe-layer.js'
import { MOST_EXPERTS } from '../trace/format.js'
import { TraceWriter } from '../trace/writer.js'

/** Options of `record`. */
export interface RecordOptions {
  /** Whether routing weights are recorded beside the ids, rounded to f16. @defaultValue false */
  weights?: boolean
  /** Bytes of the trace after which nothing more is recorded; see {@link Recorder.isFull}. @defaultValue 1 GiB */
  maxBytes?: number
}

const DEFAULT_MAX_BYTES = 2 ** 30

/** @internal A forward that has ended well. */
export interface RecordedCall {
  /** `[rows, topK]` */
  topkIds: Int32Array
  topkWeights: Float32Array
  /** By `performance.now()`. */
  began: number
  /** The gate ran, so that a NaN among the weights is a row without finite logits, for which no expert ran. */
  gateRan: boolean
  /** It ran as one with the call of the layer before it. */
  isJoined: boolean
}

/** @internal What a recorder asks of a layer. */
export interface RecordedLayer {
  /** Decoder layer; a layer without one is 0. */
  readonly index: number | null
  readonly config: ResolvedMoeConfig
  readonly dtype: DType
  readonly weightFormat: LayerWeightFormat
  stats(): { readonly cache: { readonly expertBytes: number } | null }
}

type Listener = (call: RecordedCall) => void

/** Recorders by layer. */
const listening = new WeakMap<RecordedLayer, Set<Listener>>()

/** @internal Tells the recorders of a layer of a forward. */
export function announce(layer: RecordedLayer, call: RecordedCall): void {
  for (const listener of listening.get(layer) ?? []) listener(call)
}

/** @returns what ends it */
function listen(layer: RecordedLayer, listener: Listener): () => void {
  const listeners = listening.get(layer) ?? new Set()
  listening.set(layer, listeners.add(listener))
  return () => listeners.delete(listener)
}

/**
 * A recording that goes on until it is closed. Calls that fail or are aborted are not in it. A forward pays for the copy of its ids; files
 * are written on threads of Node's. What goes wrong with them fails {@link Recorder.close}, never a forward.
 */
export class Recorder {
  /** Where the trace is written. */
  readonly directory: string
  readonly #writer: TraceWriter
  readonly #maxBytes: number
  readonly #stop: (() => unknown)[]
  readonly #began = performance.now()
  #isFull = false
  #closed: Promise<void> | null = null

  /** @internal `record` of a layer or a model makes it. */
  constructor(directory: string, layers: readonly RecordedLayer[], options: RecordOptions) {
    if (typeof directory !== 'string') throw invalidArgType('directory', 'a string', directory)
    checkOptionKeys(options, ['weights', 'maxBytes'])
    const { weights = false, maxBytes = DEFAULT_MAX_BYTES } = options
    if (typeof weights !== 'boolean') throw invalidArgType('weights', 'a boolean', weights)
    if (typeof maxBytes !== 'number') throw invalidArgType('maxBytes', 'a number', maxBytes)
    if (!(maxBytes > 0)) throw invalidArgValue('maxBytes', 'a number above 0', maxBytes)
    for (const { config } of layers)
      if (config.numExperts > MOST_EXPERTS)
        throw new MoeError(
          'ERR_MOE_UNSUPPORTED_FORMAT',
          `A trace names at most ${MOST_EXPERTS} experts a layer`,
        )
    this.directory = directory
    this.#maxBytes = maxBytes
    const described = layers.map(layer => {
      const { index, config, dtype, weightFormat } = layer
      return traceLayer(index ?? 0, config, dtype, weightFormat, layer.stats().cache?.expertBytes)
    })
    this.#writer = new TraceWriter(directory, described, { withWeights: weights })
    this.#stop = layers.map((layer, index) =>
      listen(layer, call => this.#add(index, layer.config.numExperts, call, weights)),
    )
  }

  /** Forwards in the trace so far; those that ran as one count once. */
  get calls(): number {
    return this.#writer.calls
  }

  /** Bytes of the trace so far. */
  get bytes(): number {
    return this.#writer.bytes
  }

  /** The trace has reached `maxBytes`: later calls are not in it. */
  get isFull(): boolean {
    return this.#isFull
  }

  /**
   * Ends the recording and writes what is left of it. Idempotent.
   * @throws (as rejection) {@link MoeError} ERR_MOE_IO where a file could not be written
   */
  close(): Promise<void> {
    for (const stop of this.#stop) stop()
    this.#closed ??= this.#writer.end()
    return this.#closed
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close()
  }

  #add(index: number, numExperts: number, call: RecordedCall, withWeights: boolean): void {
    const { topkIds, topkWeights, began, gateRan, isJoined } = call
    if (topkIds.length === 0) return
    // Only between calls, because those that ran as one stand in the trace as one.
    if (!isJoined) this.#isFull ||= this.#writer.bytes >= this.#maxBytes
    if (this.#isFull || this.#writer.failure) return
    // Experts without weights (identity experts) have numbers from numExperts on.
    const ran = (id: number, slot: number) =>
      id >= 0 && id < numExperts && !(gateRan && Number.isNaN(topkWeights[slot]!))
    this.#writer.add({
      index,
      isJoined,
      topkIds: topkIds.map((id, slot) => (ran(id, slot) ? id : -1)),
      topkWeights: withWeights ? (fromFloat32(topkWeights, 'f16') as Uint16Array) : null,
      micros: Math.max(0, Math.round((began - this.#began) * 1000)),
    })
  }
}
