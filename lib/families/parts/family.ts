/** What a family is: one row of data per model type, read by `checkpoint/plan/layer.ts`. */

import type { MoeShape } from '../../block/config.js'
import type { RoutingRule } from '../../block/routing.js'
import type { ConfigReader } from './config-reader.js'

/** The sizes that every routing rule starts from. */
export interface RoutingSizes {
  numExperts: number
  topK: number
}

/** True where a condition of the config holds for a layer. */
export type Condition = (config: ConfigReader, layer: number) => boolean

/** Whether a config whose `model_type` names another row is of this one. */
export type Claim = (config: ConfigReader, architectures: readonly string[]) => boolean

/** A tensor by its alternative names, below the block unless it begins with '/': then below the layer. */
export interface NamedTensor {
  names: readonly string[]
  /** Absent: always there. */
  when?: Condition
}

/** Where the experts are. `{e}` stands for the expert; names are without the `.weight` of a linear, which quantisation replaces. */
export type ExpertLayout =
  | {
      kind: 'perExpert'
      gate?: string
      up: string
      down: string
      /** `.bias` tensors beside the weights. */
      bias?: Condition
    }
  | {
      /** `[E, 2I, D]` and `[E, D, I]` (output-major), or `[E, D, 2I]` and `[E, I, D]` (input-major). */
      kind: 'fused'
      gateUp?: string
      /** Instead of `gateUp`: tensors of their own. Without gate the experts have none. */
      gate?: string
      up?: string
      down: string
      /** Where the shapes do not tell. */
      major: 'output' | 'input'
      /** Rows of gate and up alternate; else the first half is gate. */
      interleaved?: boolean
      /** `<gateUp>_bias [E, 2I]` and `<down>_bias [E, D]`. */
      bias?: Condition
    }
  | {
      /** DBRX: `[E * I, D]` each; the rows of down are not transposed. */
      kind: 'stackedRows'
      gate: string
      up: string
      down: string
    }

/** The shared MLP. */
export interface SharedLayout {
  /** Shared experts of this config; 0: the layer has none. */
  count: (config: ConfigReader, layer: number) => number
  gate?: string
  up?: string
  /** Instead of gate and up: `[2S, H]`, gate half first. */
  gateUp?: string
  down: string
  bias?: Condition
  /**
   * How the shared part joins the routed one; absent: it is added. `sigmoid` and `mix`: `[1, H]`, and what its sigmoid does; `softmax`:
   * `[2, H]` and a bias `[2]`, the shares of the routed and the shared part.
   */
  weight?: { names: readonly string[]; mode: 'sigmoid' | 'mix' | 'softmax' }
  /** Both parts count half. */
  averaged?: Condition
}

/** One way in which checkpoints of a family name their tensors. */
export interface Naming {
  /** Where a layer is below the language model; `{L}` stands for the layer. What stands before it is found from the tensors. */
  layer: string
  /** Below the layer. */
  block: string
  router: {
    weight: readonly string[]
    /** Added to the logits. */
    bias?: NamedTensor
    selectionBias?: NamedTensor
    perExpertScale?: NamedTensor
    /** `[1]`, of all experts. */
    commonScale?: NamedTensor
    inputScale?: NamedTensor
    hashTable?: NamedTensor
  }
  /** As published; `expertLayouts` adds the others that a checkpoint may have. */
  experts: readonly ExpertLayout[]
  /**
   * Experts that every token uses, scored and weighed together with the routed ones, as many as they are wide. They come last. `experts` as
   * published; `expertLayouts` adds the others below `stem`.
   */
  constant?: {
    count: (config: ConfigReader, layer: number) => number
    stem: string
    experts: readonly ExpertLayout[]
  }
  /** The first whose tensors are there. */
  shared?: SharedLayout | readonly SharedLayout[]
  /** Projections into and out of the width in which experts work, and the norm of their sum, where the config has one. */
  latent?: { down: string; up: string; norm?: string }
  outputBias?: NamedTensor
}

/** Consecutive decoder layers; encoder-decoder models have two stacks, the encoder's layers first. */
export interface Stack {
  /** Field with the number of layers, or its alternatives. */
  numLayers: string | readonly string[]
  sparse: Condition
  /** The first naming whose router is there. */
  naming: readonly Naming[]
}

/** Everything about one family. */
export interface FamilyRow {
  /** Its publications, and how tokens are routed: for the tables of docs/families.md and the README. */
  models: string
  routed: string
  /** Values of `model_type`, the canonical one first. */
  modelTypes: readonly string[]
  /** Model types of other rows under which this family is published as well; `when` tells which row a config is of. */
  alsoAs?: readonly { modelType: string; when: Claim }[]
  hiddenSize: string
  numExperts: string
  /** Field, the only value there is, or where a layer's own is. */
  topK: string | number | ((config: ConfigReader, layer: number) => number)
  /** Field, or null where the model's own code does not look at one. @defaultValue 'hidden_act' */
  activation?: string | null
  /** Where config.json lacks the field. @defaultValue 'silu' */
  defaultActivation?: string
  /** Settings that change the arithmetic: any value but these is an error. Absent fields pass; an empty list allows no value. */
  only?: Readonly<Record<string, readonly unknown[]>>
  /** Fields that change the arithmetic of other families, and that this one's own code does not look at. */
  ignored?: readonly string[]
  routing: (config: ConfigReader, sizes: RoutingSizes, layer: number) => RoutingRule
  /** Arithmetic besides routing and activation. */
  shape?: (config: ConfigReader, layer: number) => Partial<MoeShape>
  stacks: readonly Stack[]
}
