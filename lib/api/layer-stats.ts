/** What a layer counts over its calls: the figures of `layer.stats()`. */

import { allocate } from '../block/allocate.js'
import type { CacheStats } from '../block/cache-options.js'
import type { Work } from '../block/cost.js'
import type { CallTimes, MemoryUse, PhaseSeconds } from '../devices/contract.js'

/** What `layer.stats()` gives. Counters run since the layer was made; bytes and queue are of now. */
export interface LayerStats {
  /** Forwards that finished. */
  calls: number
  /** Forwards that failed or were aborted after they were queued. */
  failedCalls: number
  /** Forwards that were refused because the queue was full. */
  rejectedCalls: number
  /** Forwards of the device that `calls` took: fewer where calls that waited ran as one. */
  batches: number
  /** Rows of finished forwards. */
  tokens: number
  /** Rows that each expert worked on, `[numExperts]`. */
  tokensPerExpert: Float64Array
  /** Seconds that asynchronous calls waited in the queue before they began, summed over calls. */
  waitingSeconds: number
  /** Seconds that the device took for asynchronous calls, those that ran as one counted once. */
  runningSeconds: number
  /** Sum of the calls' FLOPs, and of what dense layers would have taken. */
  flops: number
  denseFlops: number
  /** Weights in host memory. */
  hostBytes: number
  /** Weights in device memory. */
  deviceBytes: number
  /** Scratch of forwards on the layer's device, which all its layers share. */
  workspaceBytes: number
  /** Seconds of the layer's forwards by phase, on `cpu`; null on other devices and once the layer is disposed. */
  phaseSeconds: PhaseSeconds | null
  /** Of a layer with a `cache`; null of others, and once the layer is disposed. */
  cache: CacheStats | null
  /** Calls that wait or run. */
  queueDepth: number
  /** Their rows. */
  queuedTokens: number
}

/** @internal */
export class StatsCounter {
  #calls = 0
  #failedCalls = 0
  #rejectedCalls = 0
  #batches = 0
  #waitingMs = 0
  #runningMs = 0
  #tokens = 0
  #flops = 0
  #denseFlops = 0
  readonly #tokensPerExpert: Float64Array

  constructor(numExperts: number) {
    this.#tokensPerExpert = allocate(Float64Array, numExperts)
  }

  /** @param times null: a synchronous call */
  add(numTokens: number, work: Work, times: CallTimes | null): void {
    this.#calls++
    if (times === null || times.isFirst) {
      this.#batches++
      this.#runningMs += times?.ranMs ?? 0
    }
    this.#waitingMs += times?.waitedMs ?? 0
    this.#tokens += numTokens
    this.#flops += work.flops
    this.#denseFlops += work.denseFlops
    for (let expert = 0; expert < work.expertTokens.length; expert++) {
      this.#tokensPerExpert[expert]! += work.expertTokens[expert]!
    }
  }

  addFailure(): void {
    this.#failedCalls++
  }

  addRejection(): void {
    this.#rejectedCalls++
  }

  snapshot(
    now: MemoryUse & Pick<LayerStats, 'phaseSeconds' | 'cache' | 'queueDepth' | 'queuedTokens'>,
  ): LayerStats {
    return {
      calls: this.#calls,
      failedCalls: this.#failedCalls,
      rejectedCalls: this.#rejectedCalls,
      batches: this.#batches,
      tokens: this.#tokens,
      tokensPerExpert: this.#tokensPerExpert.slice(),
      waitingSeconds: this.#waitingMs / 1000,
      runningSeconds: this.#runningMs / 1000,
      flops: this.#flops,
      denseFlops: this.#denseFlops,
      ...now,
    }
  }
}
