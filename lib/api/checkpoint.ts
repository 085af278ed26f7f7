/** A checkpoint that is open: its layers from headers alone, and loads of them from one parse. */

import { checkOptionKeys, invalidArgType, invalidArgValue } from '../block/errors.js'
import {
  type CheckpointLayer,
  OpenedModel,
  type OpenOptions,
  summaryOf,
} from '../checkpoint/plan/opened-model.js'
import { chooseDevice } from '../devices/device.js'
import { checkLoadOptions, checkSourceOptions, type LoadOptions } from './layer-options.js'
import { checkModelOptions, type ModelOptions } from './model-options.js'
import type { ModelPlan } from './model-plan.js'
import { loadLayerFrom, type MoeLayer } from './moe-layer.js'
import { loadModelFrom, type MoeModel, planModelFrom } from './moe-model.js'

/** What is said when a checkpoint is opened, and holds for all that is loaded from it. */
type Settled = 'module' | 'config'

/** @throws RangeError ERR_MOE_INVALID_ARG_VALUE */
function refuseSettled(options: object): void {
  for (const name of ['module', 'config'] as const satisfies Settled[]) {
    const value = (options as Record<string, unknown>)[name]
    if (value !== undefined) throw invalidArgValue(name, 'it in openCheckpoint, for all layers alike,', value)
  }
}

/** An open checkpoint. Its files stay open until {@link close}. */
export class Checkpoint {
  /** The directory, or the GGUF file: an absolute path. */
  readonly source: string
  /** `model_type` of the language model. */
  readonly modelType: string
  /** Layers of the model, dense ones included. */
  readonly numLayers: number
  /** Those with experts, in rising order. Layers for multi-token prediction are not among them; `loadLayer` takes their index. */
  readonly layers: readonly CheckpointLayer[]
  /** What a user should know about how the checkpoint was read. */
  readonly notices: readonly string[]
  readonly #opened: OpenedModel

  /** @internal */
  constructor(opened: OpenedModel, layers: readonly CheckpointLayer[]) {
    this.#opened = opened
    this.source = opened.checkpoint.directory
    this.modelType = opened.family.modelType
    this.numLayers = opened.numLayers
    this.layers = Object.freeze(layers)
    this.notices = opened.checkpoint.notices
  }

  /** As {@link MoeModel.plan}. */
  async plan(options: Omit<ModelOptions, Settled> = {}): Promise<ModelPlan> {
    checkModelOptions(options)
    refuseSettled(options)
    return planModelFrom(this.#opened, options)
  }

  /**
   * As {@link MoeLayer.load}, of this layer.
   *
   * @throws (as rejection) also {@link MoeError} ERR_MOE_IO where a file has changed since the checkpoint was opened, ERR_MOE_DISPOSED once it is
   * closed
   */
  async loadLayer(index: number, options: Omit<LoadOptions, 'layer' | Settled> = {}): Promise<MoeLayer> {
    const withLayer = { ...options, layer: index }
    checkLoadOptions(withLayer)
    refuseSettled(options)
    options.signal?.throwIfAborted()
    return loadLayerFrom(this.#opened, chooseDevice(options.device ?? 'auto'), withLayer)
  }

  /** As {@link MoeModel.load}; files that have changed and a closed checkpoint as in {@link loadLayer}. */
  async loadModel(options: Omit<ModelOptions, Settled> = {}): Promise<MoeModel> {
    checkModelOptions(options)
    refuseSettled(options)
    options.signal?.throwIfAborted()
    return loadModelFrom(this.#opened, options)
  }

  /** Closes the files. What was loaded stays. Idempotent. */
  async close(): Promise<void> {
    await this.#opened.close()
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close()
  }
}

/**
 * Opens a checkpoint: config, index and the header of each file are read and checked once, no weights.
 *
 * @param source the directory, or the GGUF file
 * @param options `module`, `config` and `signal` as in {@link MoeLayer.load}; they hold for all that is loaded from the checkpoint
 * @throws (as rejection) {@link MoeError} as {@link MoeLayer.load}, for any of the layers with experts; ERR_MOE_NOT_SPARSE where there is none
 * @example
 * await using checkpoint = await openCheckpoint('models/Qwen3-30B-A3B')
 * for (const { index, storedFormat, storedBytes } of checkpoint.layers) console.log(index, storedFormat, storedBytes)
 */
export async function openCheckpoint(source: string, options: OpenOptions = {}): Promise<Checkpoint> {
  if (typeof source !== 'string') throw invalidArgType('source', 'a string', source)
  checkOptionKeys(options, ['module', 'config', 'signal'])
  checkSourceOptions(options)
  const { signal } = options
  signal?.throwIfAborted()
  const opened = await OpenedModel.open(source, options)
  try {
    const layers: CheckpointLayer[] = []
    // Without any, planning the first one says so.
    const indices = opened.sparse.length > 0 ? opened.sparse : [undefined]
    for (const index of indices) layers.push(summaryOf(await opened.plan(index, signal)))
    return new Checkpoint(opened, layers)
  } catch (error) {
    await opened.close()
    throw error
  }
}
