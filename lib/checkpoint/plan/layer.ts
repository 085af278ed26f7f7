/** From a checkpoint directory to the plan of one layer: family, config, and where every tensor is. Reads headers only. */

import type { MoeConfig, MoeShape, ResolvedMoeConfig } from '../../block/config.js'
import type { DType } from '../../block/dtype.js'
import { describeValue, MoeError } from '../../block/errors.js'
import { resolveConfig } from '../../block/resolve.js'
import { type ResolvedFamily, resolveFamily } from '../../families/index.js'
import { readActivation } from '../../families/parts/activation.js'
import { checkArithmetic } from '../../families/parts/arithmetic.js'
import { ConfigReader } from '../../families/parts/config-reader.js'
import type { ExpertLayout, FamilyRow, Naming, SharedLayout } from '../../families/parts/family.js'
import type { SharedGate } from '../../spec/enums.js'
import type { CheckpointDirectory, Container } from '../checkpoint.js'
import { openSource } from '../directory.js'
import { TensorLookup } from '../tensor-lookup.js'
import { type LayerPlan, type MatrixItem, matrixBytesOf, vectorBytesOf } from './layer-plan.js'
import { MatrixPlanner, type NameOf } from './matrices.js'
import { chooseLayer, locate, type Place } from './place.js'
import { type Quantization, readQuantization } from './quantization.js'
import { VectorPlanner } from './vectors.js'

/** Which layer, and what its config and its checkpoint leave open. */
export interface PlanOptions {
  layer?: number
  module?: string
  config?: Partial<MoeConfig>
  signal?: AbortSignal
}

/**
 * Plans the reading of one layer of a checkpoint that is opened for it and closed again: {@link planLayerOf} says how.
 *
 * @throws what that throws, and {@link MoeError} ERR_MOE_IO
 */
export async function planLayer(source: string, options: PlanOptions = {}): Promise<LayerPlan> {
  const checkpoint = await openSource(source, options.signal)
  try {
    const { openFiles: _, ...plan } = await planLayerOf(
      checkpoint,
      familyOf(checkpoint, options.module),
      options,
    )
    return plan
  } finally {
    await checkpoint.files.close()
  }
}

/** The family of a checkpoint's language model. */
export function familyOf(checkpoint: CheckpointDirectory, module?: string): ResolvedFamily {
  const family = resolveFamily(checkpoint.config, checkpoint.configFile, module)
  checkSupported(family)
  return family
}

/**
 * Plans the reading of one layer. Only the headers of the shards that hold it are read, and they once.
 *
 * @param options.layer decoder layer; encoder-decoder models count the encoder's layers first @defaultValue the first with experts
 * @param options.module what the names of the language model's tensors begin with, where there are several
 * @defaultValue the one that config.json describes first
 * @throws {@link MoeError} ERR_MOE_IO, ERR_MOE_INVALID_CONFIG, ERR_MOE_INVALID_CHECKPOINT, ERR_MOE_UNSUPPORTED_FAMILY,
 * ERR_MOE_UNSUPPORTED_FORMAT, ERR_MOE_NOT_SPARSE, ERR_MOE_MISSING_TENSOR, ERR_MOE_TENSOR_MISMATCH; RangeError with
 * ERR_MOE_INVALID_ARG_VALUE for a layer or a module that does not exist; or rejects with `options.signal.reason`
 */
export async function planLayerOf(
  checkpoint: CheckpointDirectory,
  family: ResolvedFamily,
  options: PlanOptions = {},
): Promise<LayerPlan> {
  const { layer, place } = chooseLayer(family, options.layer)
  const { naming, prefix, notice } = await locate(checkpoint, family, place, options)
  const quantization = quantizationOf(checkpoint, family, prefix + naming.block)
  const { config: override = {} } = options
  const plan = buildPlan({ checkpoint, family, layer, place, naming, prefix, quantization, override })
  const notices = [...checkpoint.notices, ...(notice ? [notice] : [])]
  return { ...plan, notices, openFiles: checkpoint.files }
}

/** The quantisation of a checkpoint; a method that is not read is an error that names a tensor of it, below `block`. */
function quantizationOf(
  checkpoint: CheckpointDirectory,
  { config }: ResolvedFamily,
  block: string,
): Quantization {
  try {
    return readQuantization(config, new ConfigReader(checkpoint.config, checkpoint.configFile))
  } catch (error) {
    if (!(error instanceof MoeError) || error.code !== 'ERR_MOE_UNSUPPORTED_FORMAT') throw error
    const below = checkpoint.names.below(block).sort()
    const tensor = below.find(name => /experts|linear/.test(name)) ?? below[0]
    throw new MoeError(error.code, `${error.message}; a tensor so stored is '${tensor}'`, {
      details: { ...error.details, tensor },
    })
  }
}

function checkSupported({ row, config }: ResolvedFamily): void {
  for (const [field, allowed] of Object.entries(row.only ?? {})) {
    const value = config.raw(field)
    if (value !== undefined && !allowed.includes(value)) {
      config.fail(
        field,
        allowed.length === 0
          ? `is ${describeValue(value)}, and its arithmetic is not supported`
          : `is ${describeValue(value)}; supported: ${allowed.map(describeValue).join(', ')}`,
      )
    }
  }
}

/** Tensors of a block that change what it computes: one that is there and was not read is not left out silently. */
const PUBLISHED: Pick<Container, 'decisive' | 'decisiveBias'> = {
  decisiveBias: /(^|\.)(e_score_correction_bias|expert_bias|router_bias)$/,
  decisive:
    /(^|\.)(tid2eid|per_expert_scale)$|(^|\.)(shared_experts?|shared_mlp|shared_expert_gate|fc[12]_latent_proj|routed_expert_\w+)\.(\w+\.)?(weight|weight_packed|qweight)$/,
}

interface PlanParts {
  checkpoint: CheckpointDirectory
  family: ResolvedFamily
  layer: number
  place: Place
  naming: Naming
  prefix: string
  quantization: Quantization
  override: Partial<MoeConfig>
}

function buildPlan(parts: PlanParts): Omit<LayerPlan, 'notices' | 'openFiles'> {
  const { checkpoint, family, naming, prefix, quantization } = parts
  const { row, config } = family
  const { layer } = parts.place
  const tensors = new TensorLookup(checkpoint)
  const nameOf: NameOf = name => prefix + (name.startsWith('/') ? name.slice(1) : naming.block + name)
  const matrices = new MatrixPlanner(tensors, quantization, nameOf)
  const vectors = new VectorPlanner(tensors, nameOf, config, layer)

  const numRouted = config.integerOfLayer(row.numExperts, layer, 1)
  const numConstant = naming.constant?.count(config, layer) ?? 0
  const numExperts = numRouted + numConstant
  const topK = topKOf(row, config, layer) + numConstant
  const hiddenSize = config.integer(row.hiddenSize, 1)
  const shape: Partial<MoeShape> = {
    ...(row.activation === null
      ? {}
      : readActivation(config, row.activation ?? 'hidden_act', row.defaultActivation ?? 'silu')),
    ...row.shape?.(config, layer),
  }
  const size = shape.latentSize || hiddenSize
  // Widths come from the tensors: configs of fine-tuned and pruned models are often stale.
  // Only published files are saved and quantised under other names.
  const stems = checkpoint.container ? [] : undefined
  const layout = matrices.chooseLayout(naming.experts, numRouted, size, stems)
  const intermediateSize = matrices.intermediateSize(layout, numRouted)
  const sharedLayouts: readonly SharedLayout[] = [naming.shared ?? []].flat()
  const stored = matrices.chooseShared(sharedLayouts)
  const numSharedExperts = (stored ?? sharedLayouts[0])?.count(config, layer) ?? 0
  const sharedLayout = numSharedExperts > 0 ? (stored ?? sharedLayouts[0]) : undefined
  if (stored && !sharedLayout) {
    config.fail(
      'model_type',
      `${family.modelType}: the config names no shared experts, but ${prefix}* holds one`,
    )
  }
  const sharedWidth = sharedLayout ? matrices.shared(sharedLayout, hiddenSize) : 0
  const rule = row.routing(config, { numExperts, topK }, layer)
  checkArithmetic(row, config, rule)
  const moe = resolve(config.file, {
    ...rule,
    family: family.modelType,
    hiddenSize,
    intermediateSize,
    ...shape,
    ...(sharedLayout
      ? {
          numSharedExperts,
          sharedIntermediateSize: sharedWidth,
          sharedGate: sharedGateOf(sharedLayout, config, layer),
        }
      : {}),
    ...parts.override,
  } as MoeConfig)

  vectors.router(naming.router, moe, matrices, numConstant)
  const together = [layout]
  matrices.experts(layout, numRouted, intermediateSize, size)
  if (naming.constant && numConstant > 0) {
    const { experts, stem } = naming.constant
    const constant = matrices.chooseLayout(experts, numConstant, size, [stem])
    matrices.experts(constant, numConstant, intermediateSize, size, numRouted)
    together.push(constant)
  }
  vectors.experts(layout, numRouted, intermediateSize, size)
  if (sharedLayout) vectors.shared(sharedLayout, sharedWidth, hiddenSize)
  if (moe.latentSize > 0 && naming.latent) {
    matrices.latent(naming.latent, moe.latentSize, hiddenSize)
    if (moe.latentNormEpsilon > 0 && naming.latent.norm)
      vectors.latentNorm(naming.latent.norm, moe.latentSize)
  }
  vectors.outputBias(naming.outputBias, hiddenSize)
  const block = prefix + naming.block
  const decisive = checkpoint.container ?? PUBLISHED
  tensors.requireRead(block, decisive.decisive)
  // The layers of DeepSeek-V4 that choose by token id may hold a bias, and none of its code reads it there.
  if (!moe.hashRouted) tensors.requireRead(block, decisive.decisiveBias)

  const items = [...matrices.items].sort((a, b) => a.data.file - b.data.file || a.data.offset - b.data.offset)
  return {
    layer: parts.layer,
    config: moe,
    storedDtype: storedDtype(config, checkpoint, items),
    files: tensors.files,
    gateUpInterleaved: isInterleaved(together, nameOf, tensors),
    matrices: items,
    vectors: vectors.items,
    totalBytes: matrixBytesOf({ matrices: items }) + vectorBytesOf({ vectors: vectors.items }),
  }
}

/** Whether rows of gate and up alternate in the tensors that hold both: a layer has one order. */
function isInterleaved(layouts: readonly ExpertLayout[], nameOf: NameOf, tensors: TensorLookup): boolean {
  const both = layouts.flatMap(layout => (layout.kind === 'fused' && layout.gateUp ? [layout] : []))
  const interleaved = both.some(layout => layout.interleaved)
  const other = both.find(layout => interleaved && !layout.interleaved)
  if (other) {
    throw tensors.unsupported(
      tensors.require(nameOf(other.gateUp!)),
      'holds gate and up one after the other, where other experts of the layer have their rows alternate; store all in one order',
    )
  }
  return interleaved
}

function topKOf({ topK }: FamilyRow, config: ConfigReader, layer: number): number {
  if (typeof topK === 'number') return topK
  return typeof topK === 'string' ? config.integerOfLayer(topK, layer, 1) : topK(config, layer)
}

function sharedGateOf({ weight, averaged }: SharedLayout, config: ConfigReader, layer: number): SharedGate {
  if (weight) return weight.mode === 'softmax' ? 'mix' : weight.mode
  return averaged?.(config, layer) ? 'mix' : 'plain'
}

/** A config that the family row accepted can still be one that no block has: its fields contradict each other. */
function resolve(file: string, config: MoeConfig): ResolvedMoeConfig {
  try {
    return resolveConfig(config)
  } catch (cause) {
    throw new MoeError('ERR_MOE_INVALID_CONFIG', `${file}: ${(cause as Error).message}`, {
      cause,
      details: { file },
    })
  }
}

const STORED_DTYPES: Readonly<Record<string, DType>> = {
  float32: 'f32',
  float16: 'f16',
  bfloat16: 'bf16',
  F32: 'f32',
  F16: 'f16',
  BF16: 'bf16',
}

/** `torch_dtype` (lately `dtype`), of the text model or the root; else the dtype of the first expert, or bf16 where quantised. */
function storedDtype(
  config: ConfigReader,
  checkpoint: CheckpointDirectory,
  items: readonly MatrixItem[],
): DType {
  const root = new ConfigReader(checkpoint.config, checkpoint.configFile)
  const named = config.raw(['torch_dtype', 'dtype']) ?? root.raw(['torch_dtype', 'dtype'])
  const plain = typeof named === 'string' ? STORED_DTYPES[named.replace(/^torch\./, '')] : undefined
  return plain ?? STORED_DTYPES[items[0]?.data.type ?? ''] ?? 'bf16'
}
