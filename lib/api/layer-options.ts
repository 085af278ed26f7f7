/** Options of making a layer, and their checks. */

import { ACTIVATIONS_OPTIONS, type ActivationsOption } from '../block/activations.js'
import type { MoeConfig } from '../block/config.js'
import { DTYPES, type DType } from '../block/dtype.js'
import { checkOptionKeys, invalidArgType, invalidArgValue } from '../block/errors.js'
import { WEIGHTS_OPTIONS, type WeightsOption } from '../block/weight-format.js'
import type { DeviceOption } from '../devices/device.js'
import type { LoadProgress, LoadRuntimeOptions } from '../devices/load.js'
import { type CacheOptions, checkCacheOptions } from './cache-options.js'
import { QueueBound } from './call-queue.js'
import { checkConfigOption } from './config-option.js'
import { checkSignal } from './forward-arguments.js'

/** Options that both ways of making a layer share. */
export interface LayerOptions {
  /** Where it runs. @defaultValue 'auto' */
  device?: DeviceOption
  /** Arithmetic of the expert matmuls. @defaultValue 'auto': the dtype of the checkpoint, or of the given arrays */
  dtype?: 'auto' | DType
  /**
   * How the matrices of the experts are held.
   * - 'stored': the codes, scales and offsets of the checkpoint, multiplied in place, exactly. ERR_MOE_UNSUPPORTED_FORMAT where the
   *   device does not read that form
   * - 'auto': as 'stored' where the device reads the form, else as 'expand'
   * - 'expand': every weight decoded and rounded once to `dtype`
   * - 'int8', 'int4': quantised while they are read, in blocks of 32 columns with an f16 scale; a loss (see docs/numerics.md)
   *
   * {@link MoeLayer.weightFormat} says what became of each. @defaultValue 'auto'
   */
  weights?: WeightsOption
  /**
   * How the rows that meet the matrices of the experts, shared ones among them, are multiplied. Router and latent projections take them
   * as they are in either case.
   * - 'exact': as floats
   * - 'int8': rounded to codes of 8 bits with a scale for each 32 columns, where a matrix is held as integers (int4, int8, MXFP4, NVFP4,
   *   AWQ, GPTQ, ggml's types), whose products are then exact; faster where there are many rows, and a loss (see docs/numerics.md). Matrices
   *   that are held as floats or fp8 multiply floats; {@link MoeLayer.explain} says which do what. ERR_MOE_UNSUPPORTED_FORMAT where no
   *   matrix is held so, and on devices that do not have it ('cuda'). Never chosen by itself
   *
   * @defaultValue 'exact'
   */
  activations?: ActivationsOption
  /** CPU threads that one forward may use. @defaultValue all of the device's (SPARSE_EXPERTS_THREADS, else the cores) */
  threads?: number
  /**
   * A row's bits never depend on the rows beside it. Always so on 'cpu' and 'reference'; on 'cuda' it keeps small batches from being
   * cut in a way of their own, which costs them speed. @defaultValue false
   */
  batchInvariant?: boolean
  /**
   * Calls that wait for this layer run as one, each with the bits, the errors and the abort that it would have alone: each expert's weights
   * are read once for all of them. They never do where a row's bits depend on the rows beside it: on 'cuda' without `batchInvariant`, in
   * families with expert capacity, and on 'reference'. @defaultValue true
   */
  coalesce?: boolean
  /**
   * Rows that calls which run as one have together at most; a larger call runs alone. Scratch of such a forward is
   * `explain(maxCoalescedTokens).workspaceBytes`, besides a copy of its rows. @defaultValue 256
   */
  maxCoalescedTokens?: number
  /** Rows that may wait or run at a time; a call beyond them rejects with ERR_MOE_QUEUE_FULL. @defaultValue 65536 */
  maxQueuedTokens?: number
}

/** Options of {@link MoeLayer.load}. */
export interface LoadOptions extends LayerOptions {
  /** Index of the decoder layer. @defaultValue the first one that has experts */
  layer?: number
  /**
   * Keeps as many experts in memory as fit into so many bytes, and reads the others from the checkpoint when a call needs them: the same bits
   * as with all of them in memory, in more time. {@link MoeLayer.stats} says how often. On 'cpu'; other devices refuse it.
   * @defaultValue all experts stay in memory
   */
  cache?: CacheOptions
  /**
   * What the checkpoint leaves out of the block's description, or states otherwise: these fields take the place of those that were read. GGUF
   * files leave out what llama.cpp knows by the name of an architecture. ERR_MOE_INVALID_CONFIG where the whole fits no block.
   */
  config?: Partial<MoeConfig>
  /**
   * Which language model, where the checkpoint holds several whose layers have experts: what the names of its tensors begin with, as
   * 'talker' or 'talker.model' of Qwen3-Omni. @defaultValue the one that config.json describes first (the thinker)
   */
  module?: string
  signal?: AbortSignal
  /** Called as weights are read. */
  onProgress?: (progress: LoadProgress) => void
}

const LAYER_KEYS = [
  ...['device', 'dtype', 'weights', 'activations', 'threads', 'batchInvariant'],
  ...['coalesce', 'maxCoalescedTokens', 'maxQueuedTokens'],
]

/**
 * Within what a forward of the device reads each expert's weights for: more rows take their own time each, so a call would wait for others
 * and gain nothing.
 */
const DEFAULT_MAX_COALESCED_TOKENS = 256

const DEFAULT_MAX_QUEUED_TOKENS = 65_536

/** Options of a layer, wherever it runs. */
type ShapeOptions = Omit<LayerOptions, 'device'>

/** Rows that calls which run as one have together; 0: each runs alone. */
function jointTokens({ coalesce = true, maxCoalescedTokens }: ShapeOptions): number {
  // The addon counts in 31 bits.
  return coalesce ? Math.min(maxCoalescedTokens ?? DEFAULT_MAX_COALESCED_TOKENS, 2 ** 31 - 1) : 0
}

/** The queue of a layer, or of all layers of a model. */
export function queueBound({ maxQueuedTokens }: Pick<LayerOptions, 'maxQueuedTokens'>): QueueBound {
  return new QueueBound(maxQueuedTokens ?? DEFAULT_MAX_QUEUED_TOKENS)
}

/** What a device is told of the options of a layer, with every default written out. */
export function runtimeOptions(
  options: ShapeOptions,
): Pick<LoadRuntimeOptions, 'weights' | 'activations' | 'threads' | 'batchInvariant' | 'maxJointTokens'> {
  const { weights = 'auto', activations = 'exact', threads = 0, batchInvariant = false } = options
  return { weights, activations, threads, batchInvariant, maxJointTokens: jointTokens(options) }
}

/** The arithmetic of a layer that is stored as `stored`. */
export function dtypeOf({ dtype }: ShapeOptions, stored: DType): DType {
  return dtype === undefined || dtype === 'auto' ? stored : dtype
}

/** Options that {@link LayerOptions} names, and `more`. */
export function checkLayerOptions(options: ShapeOptions, more: readonly string[] = []): void {
  if (typeof options !== 'object' || options === null) throw invalidArgType('options', 'an object', options)
  checkOptionKeys(options, [...LAYER_KEYS, ...more])
  const { dtype, weights, threads, batchInvariant, coalesce, maxCoalescedTokens, maxQueuedTokens } = options
  if (weights !== undefined && !WEIGHTS_OPTIONS.includes(weights)) {
    throw invalidArgValue('weights', "'auto', 'stored', 'expand', 'int8' or 'int4'", weights)
  }
  checkActivations(options.activations)
  for (const [name, value] of Object.entries({ batchInvariant, coalesce })) {
    if (value !== undefined && typeof value !== 'boolean') throw invalidArgType(name, 'a boolean', value)
  }
  if (dtype !== undefined && dtype !== 'auto' && !DTYPES.includes(dtype)) {
    throw invalidArgValue('dtype', "'auto', 'f32', 'f16' or 'bf16'", dtype)
  }
  for (const [name, value, least] of [
    ['threads', threads, 0],
    ['maxCoalescedTokens', maxCoalescedTokens, 1],
    ['maxQueuedTokens', maxQueuedTokens, 1],
  ] as const) {
    if (value === undefined) continue
    if (typeof value !== 'number') throw invalidArgType(name, 'a number', value)
    if (!Number.isSafeInteger(value) || value < least)
      throw invalidArgValue(name, `an integer of at least ${least}`, value)
  }
}

/** @throws RangeError ERR_MOE_INVALID_ARG_VALUE */
export function checkActivations(activations: unknown): void {
  if (activations === undefined || ACTIVATIONS_OPTIONS.includes(activations as ActivationsOption)) return
  throw invalidArgValue('activations', "'exact' or 'int8'", activations)
}

/** Options of {@link MoeLayer.load}. */
export function checkLoadOptions(options: LoadOptions): void {
  checkLayerOptions(options, ['layer', 'cache', ...SOURCE_KEYS])
  checkCacheOptions(options.cache)
  checkSourceOptions(options)
  const { layer } = options
  if (layer !== undefined && (!Number.isInteger(layer) || layer < 0)) {
    throw typeof layer === 'number'
      ? invalidArgValue('layer', 'a non-negative integer', layer)
      : invalidArgType('layer', 'a number', layer)
  }
}

/** Options of whatever is read from a checkpoint. */
export const SOURCE_KEYS = ['module', 'config', 'signal', 'onProgress'] as const

/** Their values; the keys are checked with those of the layer. */
export function checkSourceOptions(options: Pick<LoadOptions, (typeof SOURCE_KEYS)[number]>): void {
  const { module, onProgress } = options
  if (module !== undefined && typeof module !== 'string') throw invalidArgType('module', 'a string', module)
  if (options.config !== undefined) checkConfigOption(options.config)
  if (onProgress !== undefined && typeof onProgress !== 'function') {
    throw invalidArgType('onProgress', 'a function', onProgress)
  }
  checkSignal(options.signal)
}
