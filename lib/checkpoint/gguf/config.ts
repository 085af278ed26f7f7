/**
 * The config.json that a model of a GGUF file would have, as far as metadata, tensors and the architecture say: its family's row reads it as
 * it reads a published one, with the same checks.
 */

import { MoeError } from '../../block/errors.js'
import { resolveFamily } from '../../families/index.js'
import {
  ARCHITECTURES,
  type Architecture,
  architectureOf,
  type Gating,
  refusedArchitecture,
} from './architectures.js'
import type { Metadata } from './metadata.js'
import { MetadataReader } from './metadata-reader.js'
import { HASH_TENSOR, SPARSE_TENSOR } from './names.js'

const MAX_COUNT = 65_536
const MAX_SIZE = 0x7fffffff

/** A config, and what a user should know about how it came about. */
export interface GgufConfig {
  readonly config: Readonly<Record<string, unknown>>
  readonly notices: readonly string[]
}

/** What the names of tensors say of the layers. */
interface LayerFacts {
  sparse: ReadonlySet<number>
  hashed: ReadonlySet<number>
  hasSelectionBias: boolean
  hasShared: boolean
}

/**
 * The config of a file.
 * @param names of all tensors
 * @throws {@link MoeError} ERR_MOE_UNSUPPORTED_FAMILY, ERR_MOE_NOT_SPARSE, ERR_MOE_INVALID_CONFIG
 */
export function ggufConfig(metadata: Metadata, names: Iterable<string>, file: string): GgufConfig {
  const root = new MetadataReader(metadata, file)
  const name = root.string('general.architecture')
  if (name === undefined) return root.missing('general.architecture', 'the name of an architecture')
  const stated = root.below(name)
  const layers = layersOf(names)
  const gating = stated.integer('expert_gating_func', 0, 255)
  const facts = {
    // 0 is none.
    gating: (gating === 0 ? undefined : gating) as Gating | undefined,
    hasSelectionBias: layers.hasSelectionBias,
  }
  const architecture = architectureOf(name, facts)
  const numExperts = stated.integer('expert_count', 0, MAX_COUNT) ?? 0
  if (!architecture) throw unsupported(name, file, numExperts)
  if (numExperts === 0) {
    throw new MoeError('ERR_MOE_NOT_SPARSE', `${file}: this model of architecture '${name}' has no experts`, {
      details: { file, architecture: name },
    })
  }
  return new ConfigMaker(architecture, stated, layers, numExperts, facts.gating).make()
}

function unsupported(name: string, file: string, numExperts: number): MoeError {
  const reason = refusedArchitecture(name)
  if (reason === undefined && numExperts === 0) {
    return new MoeError('ERR_MOE_NOT_SPARSE', `${file}: architecture '${name}' has no experts`, {
      details: { file, architecture: name },
    })
  }
  return new MoeError(
    'ERR_MOE_UNSUPPORTED_FAMILY',
    `${file}: architecture '${name}' is not supported: ${reason ?? `the supported ones are ${ARCHITECTURES.join(', ')}`}. ` +
      'What its layers compute can be given to MoeLayer.create where that suffices',
    { details: { file, architecture: name, supported: [...ARCHITECTURES] } },
  )
}

function layersOf(names: Iterable<string>): LayerFacts {
  const sparse = new Set<number>()
  const hashed = new Set<number>()
  let hasSelectionBias = false
  let hasShared = false
  for (const name of names) {
    const layer = SPARSE_TENSOR.exec(name)
    if (layer) sparse.add(Number(layer[1]))
    const table = HASH_TENSOR.exec(name)
    if (table) hashed.add(Number(table[1]))
    hasSelectionBias ||= /\.exp_probs_b\b/.test(name)
    hasShared ||= /\.ffn_up_shexp\b/.test(name)
  }
  return { sparse, hashed, hasSelectionBias, hasShared }
}

/** Groups of models whose first files do not state them, by the number of experts: DeepSeek-V3 and R1, DeepSeek-V2. */
const UNSTATED_GROUPS: Readonly<Record<string, Readonly<Record<number, readonly [number, number]>>>> = {
  deepseek_v3: { 256: [8, 4] },
  deepseek_v2: { 160: [8, 3] },
}

class ConfigMaker {
  private readonly config: Record<string, unknown> = {}
  private readonly notices: string[] = []
  private readonly numLayers: number

  constructor(
    private readonly architecture: Architecture,
    private readonly stated: MetadataReader,
    private readonly layers: LayerFacts,
    private readonly numExperts: number,
    private readonly gating: Gating | undefined,
  ) {
    this.numLayers = this.required('block_count', MAX_COUNT)
  }

  make(): GgufConfig {
    const { modelType, always } = this.architecture
    Object.assign(this.config, { model_type: modelType, torch_dtype: 'bfloat16', ...always })
    this.sizes()
    this.scores()
    this.weights()
    this.groups()
    this.shared()
    this.limits()
    const { selectionBias } = this.architecture
    if (selectionBias) this.set(selectionBias, this.layers.hasSelectionBias)
    return { config: this.config, notices: this.notices }
  }

  /** A field, which may be a dotted path. */
  private set(field: string, value: unknown): void {
    const keys = field.split('.')
    const last = keys.pop()!
    let section = this.config
    for (const key of keys) section = (section[key] ??= {}) as Record<string, unknown>
    section[last] = value
  }

  private required(key: string, maximum: number): number {
    return this.stated.integer(key, 1, maximum) ?? this.stated.missing(key, 'an integer of at least 1')
  }

  private sizes(): void {
    const { stated, numLayers, layers } = this
    // The row knows the names of its own fields.
    const { row } = resolveFamily({ model_type: this.architecture.modelType }, stated.file)
    this.set(row.hiddenSize, this.required('embedding_length', MAX_SIZE))
    this.set(row.numExperts, this.numExperts)
    this.set(
      typeof row.topK === 'string' ? row.topK : 'num_experts_per_tok',
      this.required('expert_used_count', this.numExperts),
    )
    const numExtra = stated.integer('nextn_predict_layers', 0, numLayers - 1) ?? 0
    this.set([row.stacks[0]!.numLayers].flat()[0]!, numLayers - numExtra)
    this.set('num_nextn_predict_layers', numExtra)
    this.set(
      'mlp_layer_types',
      Array.from({ length: numLayers }, (_, layer) =>
        layers.sparse.has(layer) ? (layers.hashed.has(layer) ? 'hash_moe' : 'sparse') : 'dense',
      ),
    )
    const activation = stated.string('hidden_activation')
    if (activation !== undefined && row.activation !== null)
      this.set(row.activation ?? 'hidden_act', activation)
    const epsilon = stated.number('attention.layer_norm_rms_epsilon')
    if (epsilon !== undefined) this.set('rms_norm_eps', epsilon)
    const latent = stated.integer('moe_latent_size', 0, MAX_SIZE)
    if (latent !== undefined) this.set('moe_latent_size', latent)
  }

  private scores(): void {
    const rule = this.architecture.gating
    if ('field' in rule) {
      const name = rule.names[this.gating ?? rule.default]
      if (name === undefined) this.otherGating(Object.keys(rule.names))
      this.set(rule.field, name)
    } else if (this.gating !== undefined && !rule.includes(this.gating)) this.otherGating(rule)
    const softcap = this.stated.number('router_logit_softcapping')
    if (softcap) this.set(this.architecture.softcap ?? 'router_logit_softcapping', softcap)
  }

  private otherGating(expected: readonly unknown[]): never {
    return this.stated.fail(
      'expert_gating_func',
      `is ${this.gating}, where the architecture has ${expected.join(' or ')}: the model is another one, or newer than this package`,
    )
  }

  /** Whether they are renormalised, and their factor, of which 0 says that there is none. */
  private weights(): void {
    const { stated } = this
    const { norm, scale } = this.architecture
    const isNormed = stated.boolean('expert_weights_norm')
    if (typeof norm === 'string') {
      if (isNormed !== undefined) this.set(norm, isNormed)
    } else if (norm !== undefined && isNormed !== undefined && isNormed !== norm) {
      stated.fail('expert_weights_norm', `is ${isNormed}, which the architecture does not compute with`)
    }
    const factor = stated.number('expert_weights_scale') || 1
    if (scale !== undefined || factor !== 1) this.set(scale ?? 'routed_scaling_factor', factor)
  }

  private groups(): void {
    const { stated, numExperts } = this
    const { modelType, groups } = this.architecture
    // 0 and absent: not stated.
    const count = stated.integer('expert_group_count', 0, numExperts) || undefined
    const kept = stated.integer('expert_group_used_count', 0, numExperts) || undefined
    const [countField, keptField] = groups ?? ['n_group', 'topk_group']
    if (count !== undefined) {
      this.set(countField, count)
      this.set(keptField, kept ?? stated.missing('expert_group_used_count', 'how many groups are kept'))
    } else if (Object.hasOwn(UNSTATED_GROUPS, modelType)) {
      const known = UNSTATED_GROUPS[modelType]![numExperts]
      this.set(countField, known?.[0] ?? 1)
      this.set(keptField, known?.[1] ?? 1)
      if (known) {
        this.notices.push(
          `${stated.file} does not state expert_group_count: ${known[0]} groups, of which ${known[1]} are kept, ` +
            `are taken from the published model with ${numExperts} experts; the option config overrides it`,
        )
      }
    }
    if (modelType === 'deepseek_v2') {
      const method = this.config[countField] === 1 ? 'greedy' : 'group_limited_greedy'
      this.set('topk_method', this.layers.hasSelectionBias ? 'noaux_tc' : method)
    }
  }

  /** Widths come from the tensors; how many experts a shared MLP stands for matters to nothing that is computed. */
  private shared(): void {
    const { shared } = this.architecture
    if (!shared) return
    const { hasShared } = this.layers
    if ('width' in shared) {
      this.set(
        shared.width,
        hasShared ? (this.stated.integer('expert_shared_feed_forward_length', 1, MAX_SIZE) ?? 1) : 0,
      )
    } else {
      const count = this.stated.integer('expert_shared_count', 0, MAX_COUNT)
      this.set(shared.count, hasShared ? count || 1 : 0)
    }
  }

  /** `swiglu_clamp_exp` and `swiglu_clamp_shexp`, a number or one for each layer; without the second it is the first. */
  private limits(): void {
    const { stated, numLayers } = this
    const { limits = { field: 'swiglu_limit' } } = this.architecture
    const experts = stated.numberOfLayers('swiglu_clamp_exp', numLayers)
    const shared = stated.numberOfLayers('swiglu_clamp_shexp', numLayers)
    if ('lists' in limits) {
      if (experts) this.set(limits.lists[0], experts)
      if (shared) this.set(limits.lists[1], shared)
      return
    }
    const used = [...this.layers.sparse].flatMap(layer => [
      experts?.[layer] ?? 0,
      (shared ?? experts)?.[layer] ?? 0,
    ])
    const [limit = 0] = used
    if (used.some(other => other !== limit))
      stated.fail(
        'swiglu_clamp_exp',
        'is not the same in all layers and for the shared experts, which the architecture has',
      )
    if (experts) this.set(limits.field, limit)
  }
}
