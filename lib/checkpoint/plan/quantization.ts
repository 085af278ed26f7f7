/** Reads `quantization_config` of config.json, for what the tensors alone do not tell. */

import { MoeError } from '../../block/errors.js'
import type { ConfigReader } from '../../families/parts/config-reader.js'
import type { MatrixParts, Part } from './parts.js'
import { type QuarkInt4, readQuark } from './quantization-quark.js'

/** Weights of one compressed-tensors config group. */
export interface WeightScheme {
  numBits: number
  type: string
  strategy: string
  /** 0: none. */
  groupSize: number
  symmetric: boolean
  block: readonly [number, number] | null
  /** Columns were grouped in another order than they stand in, which `weight_g_idx` tells. */
  ordered: boolean
}

/** What a checkpoint says about its quantisation. Which linears are quantised follows from the tensors that are there. */
export interface Quantization {
  method: 'none' | 'fp8' | 'mxfp4' | 'compressed-tensors' | 'modelopt' | 'quark' | 'awq' | 'gptq'
  /** `quant_method` as it stands in config.json, for messages. */
  name: string
  /** Rows and columns of an fp8 scale, where config.json says so. */
  block: readonly [number, number] | null
  /** compressed-tensors only. */
  schemes: readonly WeightScheme[]
  /** awq, gptq: columns that may share a scale, the general one first; -1: all. */
  groupSizes: readonly number[]
  /** awq, gptq: the general width. */
  bits: number
  /** gptq: 1 where zero points are stored minus one. */
  zeroOffset: 0 | 1
  /** gptq: every module's zero point is the middle of its range. */
  isSymmetric: boolean
  /** gptq: columns were quantised in another order, so that `g_idx` must be there. */
  isReordered: boolean
  /** gptq of 3 bits: what was taken from the zero points is no 1 for each. */
  hasOddZeros: boolean
  /** quark: how weights of four bits are packed; null where config.json names none. */
  quarkInt4: QuarkInt4 | null
}

const METHODS = [
  ...[
    'fp8',
    'fbgemm_fp8',
    'mxfp4',
    'mxfp8',
    'compressed-tensors',
    'modelopt',
    'quark',
    'awq',
    'gptq',
    'auto-round',
  ],
] as const
const NONE: Quantization = {
  method: 'none',
  name: 'none',
  block: null,
  schemes: [],
  groupSizes: [],
  bits: 4,
  zeroOffset: 0,
  isSymmetric: false,
  isReordered: false,
  hasOddZeros: false,
  quarkInt4: null,
}

/** What reads where a publication's own form does not. */
export const HELP =
  'use a publication of the model in bf16, fp8, mxfp8, mxfp4, nvfp4, compressed-tensors, GPTQ or AWQ integers'

/** The stored form of a tensor is one that nothing here reads: ERR_MOE_UNSUPPORTED_FORMAT. */
export function unsupportedTensor(
  parts: MatrixParts,
  part: Part,
  quantization: Quantization,
  what: string,
): MoeError {
  const by = quantization.method === 'none' ? '' : ` (quant_method '${quantization.name}')`
  return parts.tensors.unsupported(part.tensor, `${what}${by} is no form that is read; ${HELP}`)
}

/** `quant_method`; ModelOpt and MLX write configs without it. */
function methodOf(config: ConfigReader): string {
  if (config.has('quant_method')) return config.string('quant_method')
  if (config.has('quant_algo') || config.raw('producer.name') === 'modelopt') return 'modelopt'
  if (config.has('config_groups')) return 'compressed-tensors'
  if (config.has('group_size') && config.has('bits')) return 'mlx'
  return config.fail('quant_method', `is missing; expected one of ${METHODS.join(', ')}`)
}

/** Parameters of a checkpoint; `section` is the language model's part of config.json, `root` all of it. */
export function readQuantization(section: ConfigReader, root: ConfigReader): Quantization {
  const config =
    section.nested('quantization_config') ??
    root.nested('quantization_config') ??
    section.nested('compression_config') ??
    root.nested('compression_config')
  if (!config) return NONE
  const name = methodOf(config)
  const none = { ...NONE, name }
  switch (
    name
      .toLowerCase()
      .replace(/^intel\//, '')
      .replaceAll('_', '-')
  ) {
    case 'fp8':
    case 'fbgemm-fp8':
    case 'mxfp8':
      return { ...none, method: 'fp8', block: readBlock(config, 'weight_block_size') }
    case 'mxfp4':
      return { ...none, method: 'mxfp4' }
    case 'modelopt':
    case 'modelopt-fp4':
    case 'modelopt-mixed':
      return { ...none, method: 'modelopt' }
    case 'quark':
      return { ...none, method: 'quark', quarkInt4: readQuark(config, refusedForm(config)) }
    case 'compressed-tensors':
      requirePlain(config)
      return { ...none, method: 'compressed-tensors', schemes: readSchemes(config) }
    case 'awq':
      return { ...none, method: 'awq', ...readAwq(config) }
    case 'gptq':
      return { ...none, method: 'gptq', ...readGptq(config) }
    case 'auto-round':
      return { ...none, ...readAutoRound(config) }
    default:
      throw unsupported(
        config,
        `quant_method '${name}' is not supported; supported: ${METHODS.join(', ')}; ${HELP}`,
      )
  }
}

/** A form of a method that is read otherwise. */
function refusedForm(config: ConfigReader): (what: string) => MoeError {
  return what => unsupported(config, `${what} is no form that is read; ${HELP}`)
}

function unsupported(config: ConfigReader, problem: string): MoeError {
  return new MoeError('ERR_MOE_UNSUPPORTED_FORMAT', `${config.file}: quantization_config: ${problem}`, {
    details: { file: config.file },
  })
}

/** Formats of compressed-tensors whose tensors are not what their names say: tiles of a kernel, or without their zeros. */
const UNREAD_FORMATS = /marlin|sparse/

/** compressed-tensors can leave more to do than decoding: rotations of the activations, and zeros that were left out. */
function requirePlain(config: ConfigReader): void {
  const groups = config.nested('config_groups')?.sections() ?? []
  for (const section of [config, ...groups.map(([, group]) => group)]) {
    const format = section.string('format', '')
    if (UNREAD_FORMATS.test(format)) throw unsupported(config, `format '${format}' is not supported; ${HELP}`)
  }
  const transforms = config.nested('transform_config')
  if (transforms && Object.keys(transforms.nested('config_groups')?.section ?? {}).length > 0) {
    throw unsupported(config, `transform_config rotates activations, which is not supported; ${HELP}`)
  }
  const sparsity = config.nested('sparsity_config')?.string('format', 'dense')
  if (sparsity !== undefined && sparsity !== 'dense') {
    throw unsupported(
      config,
      `sparsity_config.format '${sparsity}' is not supported; supported: dense; ${HELP}`,
    )
  }
}

/** Two positive integers, as a list or as "64x32". */
function readBlock(config: ConfigReader, field: string): readonly [number, number] | null {
  const text = config.raw(field)
  const block =
    typeof text === 'string' ? config.string(field).split(/x/i).map(Number) : config.list(field, 'integer')
  if (!block) return null
  const [rows, cols] = block
  if (block.length !== 2 || !isCount(rows) || !isCount(cols)) {
    return config.fail(field, 'must be two positive integers')
  }
  return [rows, cols]
}

const isCount = (value: number | undefined): value is number =>
  value !== undefined && Number.isSafeInteger(value) && value > 0

/** Most ways of quantising that one checkpoint names: every matrix is held against each of them. Published ones name at most five. */
const MAX_RULES = 64
const tooMany = (count: number) => `${count} different entries, above the cap of ${MAX_RULES}`

function readSchemes(config: ConfigReader): WeightScheme[] {
  const groups = config.nested('config_groups')
  if (!groups) config.fail('config_groups', 'is missing')
  const schemes: WeightScheme[] = []
  const all = groups.sections()
  if (all.length > MAX_RULES) config.fail('config_groups', `has ${tooMany(all.length)}`)
  for (const [, group] of all) {
    const weights = group.nested('weights')
    if (!weights) continue
    schemes.push({
      numBits: weights.integer('num_bits', 1),
      type: weights.string('type', 'int'),
      strategy: weights.string('strategy', weights.has('group_size') ? 'group' : 'tensor'),
      groupSize: Math.max(0, weights.integer('group_size', -1, 0)),
      symmetric: weights.boolean('symmetric', true),
      block: readBlock(weights, 'block_structure'),
      ordered: ['group', 'dynamic', true].includes(weights.raw('actorder') as string | true),
    })
  }
  return schemes
}

function readGroupSize(config: ConfigReader): number {
  const size = config.integer(['group_size', 'q_group_size'], -1)
  if (size === 0) config.fail('group_size', 'must be positive, or -1')
  return size
}

function readAwq(config: ConfigReader): Pick<Quantization, 'groupSizes' | 'bits'> {
  const bits = config.integer(['bits', 'w_bit'], 1)
  if (bits !== 4) throw unsupported(config, `awq of ${bits} bits is not supported; supported: 4; ${HELP}`)
  const version = config.string('version', 'gemm').toLowerCase()
  if (version !== 'gemm')
    throw unsupported(config, `awq version '${version}' is not supported; supported: gemm; ${HELP}`)
  return { groupSizes: [readGroupSize(config)], bits }
}

type Gptq = Pick<
  Quantization,
  'groupSizes' | 'bits' | 'zeroOffset' | 'isSymmetric' | 'isReordered' | 'hasOddZeros'
>

/** Sizes of groups, and whether all is symmetric, under overrides by module: which applies to a module follows from its tensors. */
function readOverrides(config: ConfigReader, field: string): Pick<Gptq, 'groupSizes' | 'isSymmetric'> {
  const groupSizes = new Set([readGroupSize(config)])
  let isSymmetric = config.boolean('sym', false)
  const overrides = config.nested(field)
  for (const [, override] of overrides?.sections() ?? []) {
    const size = override.raw('group_size')
    if (Number.isSafeInteger(size) && size !== 0) groupSizes.add(size as number)
    if (override.raw('sym') === false) isSymmetric = false
    if (groupSizes.size > MAX_RULES) config.fail(field, `has ${tooMany(groupSizes.size)}`)
  }
  return { groupSizes: [...groupSizes], isSymmetric }
}

/** The general width; `dynamic` may give modules another one. */
function readWidth(config: ConfigReader): number {
  const bits = config.integer('bits', 1)
  if (![2, 3, 4, 8].includes(bits))
    throw unsupported(config, `${bits} bits are not supported; supported: 2, 3, 4, 8; ${HELP}`)
  return bits
}

function readGptq(config: ConfigReader): Gptq {
  const format = config.string('checkpoint_format', 'gptq')
  if (format !== 'gptq' && format !== 'gptq_v2') {
    throw unsupported(
      config,
      `checkpoint_format '${format}' is not supported; supported: gptq, gptq_v2; ${HELP}`,
    )
  }
  return {
    ...readOverrides(config, 'dynamic'),
    bits: readWidth(config),
    zeroOffset: format === 'gptq' ? 1 : 0,
    // GPTQModel takes constants from words of three bits that are no 1 for each zero point, and adds them again; others take 1 from each.
    hasOddZeros: format === 'gptq' && /gptqmodel/i.test(JSON.stringify(config.raw('meta.quantizer') ?? '')),
    isReordered: config.boolean('desc_act', false) && !config.boolean('static_groups', false),
  }
}

/** AutoRound packs as GPTQ does, or as AWQ does. */
function readAutoRound(config: ConfigReader): Partial<Quantization> & Pick<Quantization, 'method'> {
  const packing = config.string(['packing_format', 'backend'], 'auto_round:auto_gptq')
  const type = config.string('data_type', 'int')
  // Floats are stored as compressed-tensors stores them, and their tensors tell all.
  if (/^(mx_|nv_)?fp/.test(type)) return { method: 'compressed-tensors' }
  if (type === 'int') {
    if (packing.includes('awq')) return { method: 'awq', ...readAwq(config) }
    // AutoRound's own forms differ from GPTQ's in the zero points alone.
    const isOwn = config.boolean('sym', false) && /^auto_round(:exllamav2)?$/.test(packing)
    if (packing.includes('gptq') || isOwn) {
      const gptq = { ...readOverrides(config, 'extra_config'), bits: readWidth(config) }
      return { method: 'gptq', zeroOffset: 1, ...gptq }
    }
  }
  throw unsupported(
    config,
    `auto-round packing_format '${packing}' is not supported; supported: auto_gptq, auto_awq; ${HELP}`,
  )
}
