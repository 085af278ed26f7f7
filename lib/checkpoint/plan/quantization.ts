/** Reads `quantization_config` of config.json, for what the tensors alone do not tell. */

import { MoeError } from '../../block/errors.js'
import type { ConfigReader } from '../../families/parts/config-reader.js'

/** Weights of one compressed-tensors config group. */
export interface WeightScheme {
  numBits: number
  type: string
  strategy: string
  /** 0: none. */
  groupSize: number
  symmetric: boolean
  block: readonly [number, number] | null
}

/** What a checkpoint says about its quantisation. Which linears are quantised follows from the tensors that are there. */
export interface Quantization {
  method: 'none' | 'fp8' | 'mxfp4' | 'compressed-tensors' | 'modelopt' | 'awq' | 'gptq'
  /** Rows and columns of an fp8 scale. */
  block: readonly [number, number]
  /** compressed-tensors only. */
  schemes: readonly WeightScheme[]
  /** awq, gptq: columns that may share a scale, the general one first; -1: all. */
  groupSizes: readonly number[]
  /** gptq: 1 where zero points are stored minus one. */
  zeroOffset: 0 | 1
}

const METHODS = ['fp8', 'mxfp4', 'compressed-tensors', 'modelopt', 'awq', 'gptq'] as const
const DEFAULT_BLOCK = [128, 128] as const

/** Parameters of a checkpoint; `section` is the language model's part of config.json, `root` all of it. */
export function readQuantization(section: ConfigReader, root: ConfigReader): Quantization {
  const none: Quantization = {
    method: 'none',
    block: DEFAULT_BLOCK,
    schemes: [],
    groupSizes: [],
    zeroOffset: 0,
  }
  const config =
    section.nested('quantization_config') ??
    root.nested('quantization_config') ??
    section.nested('compression_config') ??
    root.nested('compression_config')
  if (!config) return none
  const method = config.string('quant_method')
  switch (method) {
    case 'fp8':
      return { ...none, method, block: readBlock(config, 'weight_block_size') ?? DEFAULT_BLOCK }
    case 'mxfp4':
    case 'modelopt':
      return { ...none, method }
    case 'compressed-tensors':
      return { ...none, method, schemes: readSchemes(config) }
    case 'awq':
      return { ...none, method, groupSizes: readAwq(config) }
    case 'gptq':
      return { ...none, method, ...readGptq(config) }
    default:
      throw unsupported(config, `quant_method '${method}' is not supported; supported: ${METHODS.join(', ')}`)
  }
}

function unsupported(config: ConfigReader, problem: string): MoeError {
  return new MoeError('ERR_MOE_UNSUPPORTED_FORMAT', `${config.file}: quantization_config: ${problem}`, {
    details: { file: config.file },
  })
}

function readBlock(config: ConfigReader, field: string): readonly [number, number] | null {
  const block = config.list(field, 'integer')
  if (!block) return null
  const [rows, cols] = block
  if (block.length !== 2 || rows === undefined || cols === undefined || rows < 1 || cols < 1) {
    config.fail(field, 'must be two positive integers')
  }
  return [rows, cols]
}

/** Most ways of quantising that one checkpoint names: every matrix is held against each of them. Published ones name at most five. */
const MAX_RULES = 64
const tooMany = (count: number) => `${count} different entries, above the cap of ${MAX_RULES}`

function readSchemes(config: ConfigReader): WeightScheme[] {
  const groups = config.nested('config_groups')
  if (!groups) config.fail('config_groups', 'is missing')
  const schemes: WeightScheme[] = []
  const names = Object.keys(groups.section)
  if (names.length > MAX_RULES) config.fail('config_groups', `has ${tooMany(names.length)}`)
  for (const name of names) {
    const weights = groups.nested(name)?.nested('weights')
    if (!weights) continue
    schemes.push({
      numBits: weights.integer('num_bits', 1),
      type: weights.string('type', 'int'),
      strategy: weights.string('strategy', weights.has('group_size') ? 'group' : 'tensor'),
      groupSize: Math.max(0, weights.integer('group_size', -1, 0)),
      symmetric: weights.boolean('symmetric', true),
      block: readBlock(weights, 'block_structure'),
    })
  }
  return schemes
}

function readGroupSize(config: ConfigReader): number {
  const size = config.integer('group_size', -1)
  if (size === 0) config.fail('group_size', 'must be positive, or -1')
  return size
}

function requireFourBits(config: ConfigReader): void {
  const bits = config.integer('bits', 1)
  if (bits !== 4) throw unsupported(config, `${bits} bits are not supported; supported: 4`)
}

function readAwq(config: ConfigReader): number[] {
  requireFourBits(config)
  const version = config.string('version', 'gemm').toLowerCase()
  if (version !== 'gemm')
    throw unsupported(config, `awq version '${version}' is not supported; supported: gemm`)
  return [readGroupSize(config)]
}

function readGptq(config: ConfigReader): Pick<Quantization, 'groupSizes' | 'zeroOffset'> {
  requireFourBits(config)
  const format = config.string('checkpoint_format', 'gptq')
  if (format !== 'gptq' && format !== 'gptq_v2') {
    throw unsupported(config, `checkpoint_format '${format}' is not supported; supported: gptq, gptq_v2`)
  }
  const groupSizes = new Set([readGroupSize(config)])
  // Per-module overrides: which one applies to a module follows from the shapes of its tensors.
  const dynamic = config.nested('dynamic')
  for (const pattern of Object.keys(dynamic?.section ?? {})) {
    const size = dynamic!.nested(pattern)?.raw('group_size')
    if (Number.isSafeInteger(size) && size !== 0) groupSizes.add(size as number)
    if (groupSizes.size > MAX_RULES) config.fail('dynamic', `has ${tooMany(groupSizes.size)}`)
  }
  return { groupSizes: [...groupSizes], zeroOffset: format === 'gptq' ? 1 : 0 }
}
