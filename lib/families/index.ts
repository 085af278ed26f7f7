/** Finds the row of a config.json, and the section of it that describes the language model. */

import { editDistance, MoeError } from '../block/errors.js'
import { ConfigReader } from './config-reader.js'
import { DEEPSEEK_FAMILIES } from './deepseek.js'
import { ENCODER_DECODER_FAMILIES } from './encoder-decoder.js'
import type { FamilyRow } from './family.js'
import { FUSED_FAMILIES } from './fused.js'
import { SCHEME_C_FAMILIES } from './scheme-c.js'
import { SOFTMAX_FAMILIES } from './softmax.js'

/** Every family. */
export const FAMILIES: readonly FamilyRow[] = [
  ...DEEPSEEK_FAMILIES,
  ...SCHEME_C_FAMILIES,
  ...SOFTMAX_FAMILIES,
  ...FUSED_FAMILIES,
  ...ENCODER_DECODER_FAMILIES,
]

const ROWS = new Map(FAMILIES.flatMap(row => row.modelTypes.map(type => [type, row] as const)))

/** Where multimodal configs keep the language model. */
const NESTED = [['text_config'], ['thinker_config', 'text_config'], ['language_config'], ['llm_config']]

/** Every `model_type` that a row describes. */
export function knownModelTypes(): string[] {
  return [...ROWS.keys()]
}

/** A family row and the config section that it reads. */
export interface ResolvedFamily {
  row: FamilyRow
  /** The `model_type`, without the suffix of a nested text model. */
  modelType: string
  config: ConfigReader
}

function rowOf(type: unknown): { row: FamilyRow; modelType: string } | undefined {
  if (typeof type !== 'string') return undefined
  const modelType = ROWS.has(type) ? type : type.replace(/_text$/, '')
  const row = ROWS.get(modelType)
  return row && { row, modelType }
}

/**
 * Finds the family of a parsed config.json. Multimodal configs nest the language model; its own `model_type` decides, or the
 * root's where that one is unknown.
 * @throws {@link MoeError} ERR_MOE_UNSUPPORTED_FAMILY, ERR_MOE_INVALID_CONFIG
 */
export function resolveFamily(json: Readonly<Record<string, unknown>>, file: string): ResolvedFamily {
  const root = new ConfigReader(json, file)
  const outer = rowOf(root.raw('model_type'))
  for (const path of NESTED) {
    const nested = path.reduce<ConfigReader | undefined>((section, key) => section?.nested(key), root)
    if (!nested) continue
    const inner = rowOf(nested.raw('model_type'))
    const found = inner ?? outer
    if (!found) continue
    return { row: found.row, modelType: (outer?.row === found.row ? outer : found).modelType, config: nested }
  }
  if (outer) return { ...outer, config: root }
  const type = root.string('model_type')
  const near = nearest(type)
  const hint = near.length > 0 ? `; near it: ${near.join(', ')}` : ''
  throw new MoeError(
    'ERR_MOE_UNSUPPORTED_FAMILY',
    `${file}: model_type '${type}' is not a supported mixture-of-experts family${hint}`,
    { details: { file, modelType: type, near, supported: knownModelTypes() } },
  )
}

function nearest(type: string): string[] {
  const plain = (name: string) => name.toLowerCase().replace(/[^a-z0-9]/g, '')
  const wanted = plain(type.slice(0, 64))
  return knownModelTypes()
    .map(name => ({ name, distance: editDistance(plain(name), wanted) }))
    .filter(
      ({ name, distance }) =>
        distance <= Math.min(3, wanted.length / 4) ||
        (wanted.length >= 4 && plain(name).startsWith(wanted.slice(0, 6))),
    )
    .sort((a, b) => a.distance - b.distance)
    .slice(0, 5)
    .map(({ name }) => name)
}
