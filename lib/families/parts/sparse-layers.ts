/** The ways in which configs say which layers have experts. */

import type { ConfigReader } from './config-reader.js'
import type { Condition } from './family.js'

export const everyLayer: Condition = () => true

/** Layers from `field` on, of which every `freqField`-th one. */
export function fromLayer(field: string, freqField?: string): Condition {
  return (config, layer) =>
    layer >= config.integer(field, 0, 0) && (!freqField || layer % config.integer(freqField, 1, 1) === 0)
}

/** `mlp_layer_types`; without it `first_k_dense_replace`; without both `numDense` dense layers first. */
export function byLayerTypes(numDense: number): Condition {
  return (config, layer) => {
    const types = config.list('mlp_layer_types', 'string')
    if (!types) return layer >= config.integer('first_k_dense_replace', 0, numDense)
    const type = types[layer]
    if (type === undefined) config.fail('mlp_layer_types', `has no entry for layer ${layer}`)
    if (type !== 'sparse' && type !== 'dense')
      config.fail('mlp_layer_types', `has the unknown value '${type}'`)
    return type === 'sparse'
  }
}

/** Qwen: not in `mlp_only_layers`, and (L + 1) divisible by `decoder_sparse_step`. */
export const byDecoderSparseStep: Condition = (config, layer) =>
  !config.integerSet('mlp_only_layers')?.has(layer) &&
  (layer + 1) % config.integer('decoder_sparse_step', 1, 1) === 0

/** ERNIE 4.5: (L + 1) divisible by the interval, between start and end (-1: the last layer). */
export const byInterval: Condition = (config, layer) => {
  const end = config.integer('moe_layer_end_index', -1, -1)
  return (
    (layer + 1) % config.integer('moe_layer_interval', 1, 1) === 0 &&
    layer >= config.integer('moe_layer_start_index', 0, 0) &&
    (end === -1 || layer <= end)
  )
}

/** Jamba: L mod period is the offset. */
export const byPeriod: Condition = (config, layer) =>
  layer % config.integer('expert_layer_period', 1) === config.integer('expert_layer_offset', 0)

/** Llama 4: an explicit list, or every s-th layer. */
export const byInterleaveStep: Condition = (config, layer) =>
  config.integerSet('moe_layers')?.has(layer) ??
  (layer + 1) % config.integer('interleave_moe_layer_step', 1) === 0

/** Nemotron-H: a list of block types, or the older string of letters. */
export const byBlockType: Condition = (config, layer) => {
  const types = config.list('layers_block_type', 'string')
  return types ? types[layer] === 'moe' : config.string('hybrid_override_pattern')[layer] === 'E'
}

/** Switch: every `floor(layers / sparse layers)`-th layer, beginning with the second. */
export function bySparseCount(layersField: string | readonly string[], sparseField: string): Condition {
  return (config: ConfigReader, layer) => {
    const numSparse = config.integer(sparseField, 0)
    if (numSparse === 0) return false
    const step = Math.floor(config.integer(layersField, 1) / numSparse)
    return step === 1 || layer % step === 1
  }
}

/** NLLB: (L + 1) divisible by the step; 0: none. */
export function bySparseStep(field: string): Condition {
  return (config, layer) => {
    const step = config.integer(field, 0)
    return step > 0 && (layer + 1) % step === 0
  }
}
