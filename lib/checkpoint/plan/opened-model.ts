/** A checkpoint that is open, and the language model in it that is meant: which layers have experts, and the plan of each. */

import type { MoeConfig, ResolvedMoeConfig } from '../../block/config.js'
import type { ResolvedFamily } from '../../families/index.js'
import type { CheckpointDirectory } from '../checkpoint.js'
import { openSource } from '../directory.js'
import { familyOf, planLayerOf } from './layer.js'
import type { LayerPlan } from './layer-plan.js'
import { listLayers } from './place.js'
import { storedName } from './stored-name.js'

/** What the options of loading say of the checkpoint. */
export interface OpenOptions {
  module?: string
  config?: Partial<MoeConfig>
  signal?: AbortSignal
}

/** A layer with experts, from headers alone. */
export interface CheckpointLayer {
  /** Decoder layer. */
  readonly index: number
  readonly config: Readonly<ResolvedMoeConfig>
  /** How the matrices of the experts are stored: 'bf16', 'fp8 128x128', 'q4_K, q6_K' … */
  readonly storedFormat: string
  /** Bytes of the files that loading the layer reads. */
  readonly storedBytes: number
}

export class OpenedModel {
  readonly checkpoint: CheckpointDirectory
  readonly family: ResolvedFamily
  /** Layers of the model, dense ones included. */
  readonly numLayers: number
  /** Indices of those with experts. */
  readonly sparse: readonly number[]
  readonly #config: Partial<MoeConfig> | undefined
  readonly #module: string | undefined

  private constructor(checkpoint: CheckpointDirectory, { module, config }: OpenOptions) {
    this.checkpoint = checkpoint
    this.family = familyOf(checkpoint, module)
    const { numLayers, sparse } = listLayers(this.family)
    this.numLayers = numLayers
    this.sparse = sparse
    this.#module = module
    this.#config = config
  }

  /** To be closed. */
  static async open(source: string, options: OpenOptions = {}): Promise<OpenedModel> {
    const checkpoint = await openSource(source, options.signal)
    try {
      return new OpenedModel(checkpoint, options)
    } catch (error) {
      await checkpoint.files.close()
      throw error
    }
  }

  /**
   * The plan of a layer; of the first one with experts where none is named. Headers of files are read when the first layer in them is planned.
   * @throws what {@link planLayerOf} throws
   */
  plan(layer?: number, signal?: AbortSignal): Promise<LayerPlan> {
    const options = { layer, module: this.#module, config: this.#config, signal }
    return planLayerOf(this.checkpoint, this.family, options)
  }

  close(): Promise<void> {
    return this.checkpoint.files.close()
  }
}

/** What a plan says of its layer, without the plan. */
export function summaryOf(plan: LayerPlan): CheckpointLayer {
  const experts = plan.matrices.filter(({ role }) => role === 'expert')
  const names = new Set(experts.map(item => storedName(item, item.rows, item.cols)))
  return Object.freeze({
    index: plan.layer,
    config: plan.config,
    storedFormat: [...names].join(', '),
    storedBytes: plan.totalBytes,
  })
}
