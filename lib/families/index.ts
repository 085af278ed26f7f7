/** Finds the row of a config.json, and the section of it that describes the language model. */

import { editDistance, MoeError } from '../block/errors.js'
import { AI21_FAMILIES } from './ai21.js'
import { ALLENAI_FAMILIES } from './allenai.js'
import { ARCEE_FAMILIES } from './arcee.js'
import { BAIDU_FAMILIES } from './baidu.js'
import { COHERE_FAMILIES } from './cohere.js'
import { DATABRICKS_FAMILIES } from './databricks.js'
import { DEEPSEEK_FAMILIES } from './deepseek.js'
import { GOOGLE_FAMILIES } from './google.js'
import { IBM_FAMILIES } from './ibm.js'
import { IFM_FAMILIES } from './ifm.js'
import { INCLUSIONAI_FAMILIES } from './inclusionai.js'
import { JETBRAINS_FAMILIES } from './jetbrains.js'
import { JETMOE_FAMILIES } from './jetmoe.js'
import { KWAI_FAMILIES } from './kwai.js'
import { LG_FAMILIES } from './lg.js'
import { LIQUID_FAMILIES } from './liquid.js'
import { MEITUAN_FAMILIES } from './meituan.js'
import { META_FAMILIES } from './meta.js'
import { MICROSOFT_FAMILIES } from './microsoft.js'
import { MINIMAX_FAMILIES } from './minimax.js'
import { MISTRAL_FAMILIES } from './mistral.js'
import { MOONSHOT_FAMILIES } from './moonshot.js'
import { NVIDIA_FAMILIES } from './nvidia.js'
import { OPENAI_FAMILIES } from './openai.js'
import { ConfigReader } from './parts/config-reader.js'
import type { FamilyRow } from './parts/family.js'
import { POOLSIDE_FAMILIES } from './poolside.js'
import { QWEN_FAMILIES } from './qwen.js'
import { REDNOTE_FAMILIES } from './rednote.js'
import { refusalOf } from './refused.js'
import { RHYMES_FAMILIES } from './rhymes.js'
import { SKT_FAMILIES } from './skt.js'
import { STEPFUN_FAMILIES } from './stepfun.js'
import { TENCENT_FAMILIES } from './tencent.js'
import { THINKING_MACHINES_FAMILIES } from './thinkingmachines.js'
import { UPSTAGE_FAMILIES } from './upstage.js'
import { XIAOMI_FAMILIES } from './xiaomi.js'
import { ZHIPU_FAMILIES } from './zhipu.js'

/** Every family, by publisher. */
export const PUBLISHERS: Readonly<Record<string, readonly FamilyRow[]>> = {
  AI21: AI21_FAMILIES,
  AllenAI: ALLENAI_FAMILIES,
  Arcee: ARCEE_FAMILIES,
  Baidu: BAIDU_FAMILIES,
  Cohere: COHERE_FAMILIES,
  Databricks: DATABRICKS_FAMILIES,
  DeepSeek: DEEPSEEK_FAMILIES,
  Google: GOOGLE_FAMILIES,
  IBM: IBM_FAMILIES,
  IFM: IFM_FAMILIES,
  inclusionAI: INCLUSIONAI_FAMILIES,
  JetBrains: JETBRAINS_FAMILIES,
  JetMoE: JETMOE_FAMILIES,
  Kwai: KWAI_FAMILIES,
  LG: LG_FAMILIES,
  Liquid: LIQUID_FAMILIES,
  Meituan: MEITUAN_FAMILIES,
  Meta: META_FAMILIES,
  Microsoft: MICROSOFT_FAMILIES,
  MiniMax: MINIMAX_FAMILIES,
  Mistral: MISTRAL_FAMILIES,
  Moonshot: MOONSHOT_FAMILIES,
  NVIDIA: NVIDIA_FAMILIES,
  OpenAI: OPENAI_FAMILIES,
  Poolside: POOLSIDE_FAMILIES,
  Qwen: QWEN_FAMILIES,
  rednote: REDNOTE_FAMILIES,
  Rhymes: RHYMES_FAMILIES,
  SKT: SKT_FAMILIES,
  StepFun: STEPFUN_FAMILIES,
  Tencent: TENCENT_FAMILIES,
  ThinkingMachines: THINKING_MACHINES_FAMILIES,
  Upstage: UPSTAGE_FAMILIES,
  Xiaomi: XIAOMI_FAMILIES,
  Zhipu: ZHIPU_FAMILIES,
}

export const FAMILIES: readonly FamilyRow[] = Object.values(PUBLISHERS).flat()

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
  /** Keys from config.json's root to the section of the language model. */
  path: readonly string[]
}

type Found = { row: FamilyRow; modelType: string }

/** Rows that claim some of the configs of another row's model type. */
const CLAIMS = FAMILIES.flatMap(row => (row.alsoAs ?? []).map(claim => ({ row, ...claim })))

const plain = (name: string) => name.toLowerCase().replace(/[^a-z0-9]/g, '')

/** The model type of `DeepseekV2ForCausalLM`, for sections of a wrapper that name their architecture alone. */
function typeOfArchitecture(name: string | undefined): string | undefined {
  const stem = name && plain(name.replace(/For\w+$/, ''))
  return stem ? knownModelTypes().find(type => plain(type) === stem) : undefined
}

function rowOf(section: ConfigReader, root: ConfigReader): Found | undefined {
  const own = section.list('architectures', 'string') ?? []
  const type = section.raw('model_type') ?? typeOfArchitecture(own[0])
  if (typeof type !== 'string') return undefined
  const reason = refusalOf(type)
  if (reason) {
    throw unsupported(
      section.file,
      type,
      `: ${reason}. What its layers compute can be given to MoeLayer.create where that suffices`,
    )
  }
  const modelType = ROWS.has(type) ? type : type.replace(/_text$/, '')
  const architectures = [...own, ...(root.list('architectures', 'string') ?? [])]
  const claim = CLAIMS.find(
    candidate => candidate.modelType === modelType && candidate.when(section, architectures),
  )
  if (claim) return { row: claim.row, modelType: claim.row.modelTypes[0]! }
  const row = ROWS.get(modelType)
  return row && { row, modelType }
}

/** Sections that describe the language model of a module: `talker_config`, or the language model inside it, is that of `talker`. */
function sectionsOf(module: string): string[][] {
  return module.split('.').flatMap(segment => [[`${segment}_config`, 'text_config'], [`${segment}_config`]])
}

const sectionAt = (root: ConfigReader, path: readonly string[]) =>
  path.reduce<ConfigReader | undefined>((section, key) => section?.nested(key), root)

/**
 * Finds the family of a parsed config.json. Multimodal configs nest the language model; its own `model_type` decides, or the
 * root's where that one is unknown.
 *
 * @param module the language model that is meant, where there are several; its section is named like it
 * @throws {@link MoeError} ERR_MOE_UNSUPPORTED_FAMILY, ERR_MOE_INVALID_CONFIG
 */
export function resolveFamily(
  json: Readonly<Record<string, unknown>>,
  file: string,
  module?: string,
): ResolvedFamily {
  const root = new ConfigReader(json, file)
  for (const path of module === undefined ? [] : sectionsOf(module)) {
    const config = sectionAt(root, path)
    const own = config && rowOf(config, root)
    if (own) return { ...own, config, path }
  }
  const outer = rowOf(root, root)
  for (const path of NESTED) {
    const nested = sectionAt(root, path)
    if (!nested) continue
    const inner = rowOf(nested, root)
    const found = inner ?? outer
    if (!found) continue
    return {
      row: found.row,
      modelType: (outer?.row === found.row ? outer : found).modelType,
      config: nested,
      path,
    }
  }
  if (outer) return { ...outer, config: root, path: [] }
  const wrapped = onlyKnownSection(root)
  if (wrapped) return wrapped
  const type = root.string('model_type')
  const near = nearest(type)
  const hint = near.length > 0 ? `; near it: ${near.join(', ')}` : ''
  throw unsupported(file, type, ` as a mixture-of-experts family${hint}`, near)
}

function unsupported(file: string, modelType: string, why: string, near: string[] = []): MoeError {
  return new MoeError(
    'ERR_MOE_UNSUPPORTED_FAMILY',
    `${file}: model_type '${modelType}' is not supported${why}`,
    {
      details: { file, modelType, near, supported: knownModelTypes() },
    },
  )
}

/** A wrapper that nothing here knows by name: its one section with a known model type. */
function onlyKnownSection(root: ConfigReader): ResolvedFamily | undefined {
  const known = root.sections().flatMap(([key, config]) => {
    const found = rowOf(config, root)
    return found ? [{ ...found, config, path: [key] }] : []
  })
  return known.length === 1 ? known[0] : undefined
}

function nearest(type: string): string[] {
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
