/**
 * Which layers have experts. One function reads every field in which published configs say it; a row adds only what its model's own code
 * takes where config.json says nothing.
 */

import type { ConfigReader } from './config-reader.js'
import type { Condition } from './family.js'

/** What the model's own config class takes where config.json has no such field. */
export interface SparseDefaults {
  /** Dense layers before the first sparse one. @defaultValue 0 */
  numDense?: number
  /** `expert_layer_period` and `expert_layer_offset`. @defaultValue every layer */
  period?: number
  offset?: number
}

/** Fields that count the dense layers in front. */
const FIRST_SPARSE = [
  'first_k_dense_replace',
  'num_dense_layers',
  'moe_layer_num_skipped',
  'moe_layer_start_index',
  'dense_mlp_idx',
]

/** Values of `mlp_layer_types`, and whether such a layer has experts. */
const LAYER_TYPES: Readonly<Record<string, boolean>> = {
  sparse: true,
  moe: true,
  hash_moe: true,
  dense: false,
  mlp: false,
}

/** Entry `layer` of a list with one entry per layer. */
function entryOf<T>(config: ConfigReader, field: string, list: readonly T[], layer: number): T {
  const entry = list[layer]
  if (entry === undefined) return config.fail(field, `has no entry for layer ${layer}`)
  return entry
}

/** A list that names every layer decides alone; undefined: config.json has none. */
function fromLists(config: ConfigReader, layer: number): boolean | undefined {
  const types = config.list('mlp_layer_types', 'string')
  if (types) {
    const type = entryOf(config, 'mlp_layer_types', types, layer)
    if (!Object.hasOwn(LAYER_TYPES, type))
      config.fail('mlp_layer_types', `has the unknown value '${type}' for layer ${layer}`)
    return LAYER_TYPES[type]
  }
  const block = config.item('block_configs', layer)
  if (block) return block.string('block_type') === 'moe'
  for (const field of ['layers_block_type', 'layer_types']) {
    const blocks = config.list(field, 'string')
    // Most lists of layer types are about attention.
    if (blocks && (field === 'layers_block_type' || blocks.includes('moe'))) return blocks[layer] === 'moe'
  }
  for (const field of ['is_moe_layer', 'moe_layer_freq']) {
    const flags = config.flags(field)
    if (flags) return entryOf(config, field, flags, layer)
  }
  const listed = config.integerSet('moe_layers')
  if (listed) return listed.has(layer)
  if (config.has('moe_layers_enum')) {
    if (Array.isArray(config.raw('moe_layers_enum'))) return config.integerSet('moe_layers_enum')!.has(layer)
    const numbers = config.string('moe_layers_enum').split(',')
    return numbers.some(number => Number.parseInt(number, 10) === layer)
  }
  if (config.has('hybrid_override_pattern')) return config.string('hybrid_override_pattern')[layer] === 'E'
  return undefined
}

/** Whether `(layer + 1)` is a multiple of a field; absent: yes. */
function isMultiple(config: ConfigReader, field: string, layer: number): boolean {
  return (layer + 1) % config.integer(field, 1, 1) === 0
}

/** Everything else is a condition of its own, and all of them must hold. */
function fromConditions(config: ConfigReader, layer: number, defaults: SparseDefaults): boolean {
  const counted = FIRST_SPARSE.filter(field => config.has(field))
  const isDenseListed = config.integerSet('mlp_only_layers')
  const numDense = counted.length === 0 && !isDenseListed ? (defaults.numDense ?? 0) : 0
  if (layer < numDense || counted.some(field => layer < config.integer(field, 0))) return false
  if (isDenseListed?.has(layer)) return false
  const end = config.integer('moe_layer_end_index', -1, -1)
  if (end >= 0 && layer > end) return false
  const period = config.integer('expert_layer_period', 1, defaults.period ?? 1)
  if (layer % period !== config.integer('expert_layer_offset', 0, defaults.offset ?? 0)) return false
  return (
    layer % config.integer('moe_layer_freq', 1, 1) === 0 &&
    ['decoder_sparse_step', 'moe_layer_interval', 'interleave_moe_layer_step'].every(field =>
      isMultiple(config, field, layer),
    )
  )
}

/** The rule of every decoder: what config.json says in whichever fields, and `defaults` where it says nothing. */
export function sparseLayers(defaults: SparseDefaults = {}): Condition {
  return (config, layer) => fromLists(config, layer) ?? fromConditions(config, layer, defaults)
}

/** Switch: every `floor(layers / sparse layers)`-th layer, beginning with the second. */
export function bySparseCount(layersField: string | readonly string[], sparseField: string): Condition {
  return (config: ConfigReader, layer) => {
    const numSparse = config.integer(sparseField, 0, 3)
    if (numSparse === 0) return false
    const step = Math.floor(config.integer(layersField, 1) / numSparse)
    return step === 1 || layer % step === 1
  }
}

/** NLLB: (L + 1) divisible by the step; 0: none. */
export function bySparseStep(field: string): Condition {
  return (config, layer) => {
    const step = config.integer(field, 0, 4)
    return step > 0 && (layer + 1) % step === 0
  }
}
