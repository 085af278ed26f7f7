/** Routing rules that several families share, with the fields that configs spell differently as arguments. */

import type { Grouping, Normalization, ScoredRouting } from '../../block/routing.js'
import type { GroupScore } from '../../spec/enums.js'
import type { ConfigReader } from './config-reader.js'
import type { FamilyRow, RoutingSizes } from './family.js'

type Routing = FamilyRow['routing']

/** DeepSeek's epsilon, which its relatives inherited. */
export const DEEPSEEK_EPSILON = 1e-20

interface ScoredOptions {
  score?: ScoredRouting['scoringFunc']
  /** Field with a flag, or the value itself. */
  norm: string | boolean
  normDefault?: boolean
  epsilon?: number
  /** k = 1 is never renormalised. */
  onlyAboveOne?: boolean
  /** Field with the factor. */
  scale?: string
  scaleDefault?: number
  groups?: GroupFields
  softcap?: string
}

/** Fields of a config that group experts. */
export interface GroupFields {
  count: string
  kept: string
  score: GroupScore
  /** How many, and how many of them are kept, where config.json does not say. @defaultValue [1, 1] */
  defaults?: readonly [number, number]
}

/** Groups of a config; one group, or a field that is null, is no grouping. */
export function readGroups(config: ConfigReader, groups: GroupFields): Grouping {
  const [count, kept] = groups.defaults ?? [1, 1]
  const topkGroup = config.integer(groups.kept, 1, kept)
  if (config.isNull(groups.count)) return {}
  const numExpertGroups = config.integer(groups.count, 1, count)
  return numExpertGroups === 1 ? {} : { numExpertGroups, topkGroup, groupScore: groups.score }
}

/** Scores over all experts, top-k, weights from the scores. */
export function scored(options: ScoredOptions): Routing {
  return (config: ConfigReader, sizes: RoutingSizes): ScoredRouting => {
    const flag =
      typeof options.norm === 'string' ? config.boolean(options.norm, options.normDefault) : options.norm
    const renormalise = flag && !(options.onlyAboveOne && sizes.topK === 1)
    const norm: Normalization = renormalise
      ? { normTopkProb: true, normEpsilon: options.epsilon ?? 0 }
      : { normTopkProb: false }
    const softcap = options.softcap ? config.number(options.softcap, 0) : 0
    return {
      scoringFunc: options.score ?? 'softmax',
      ...sizes,
      ...norm,
      ...(options.groups ? readGroups(config, options.groups) : {}),
      ...(options.scale ? { routedScalingFactor: config.number(options.scale, options.scaleDefault) } : {}),
      ...(softcap > 0 ? { logitSoftcap: softcap } : {}),
    }
  }
}

/** Softmax over all experts, always renormalised. */
export const NORM_ALWAYS = scored({ norm: true })

/** Softmax over all experts, renormalised where `norm_topk_prob` says so. */
export const NORM_FLAG_OFF = scored({ norm: 'norm_topk_prob', normDefault: false })

/** Softmax over all experts, renormalised unless `norm_topk_prob` says otherwise. */
export const NORM_FLAG_ON = scored({ norm: 'norm_topk_prob', normDefault: true })

/** What the config classes of DeepSeek-V3's relatives take where config.json does not say. */
export interface NoauxDefaults {
  /** @defaultValue true */
  norm?: boolean
  /** @defaultValue 1 */
  scale?: number
  /** @defaultValue [1, 1] */
  groups?: readonly [number, number]
  /** @defaultValue 'top2_sum' */
  groupScore?: GroupScore
}

/** DeepSeek-V3's "noaux_tc" under its own field names. */
export function noauxTc(defaults: NoauxDefaults = {}): Routing {
  return scored({
    score: 'sigmoid',
    norm: 'norm_topk_prob',
    normDefault: defaults.norm ?? true,
    epsilon: DEEPSEEK_EPSILON,
    scale: 'routed_scaling_factor',
    scaleDefault: defaults.scale ?? 1,
    groups: {
      count: 'n_group',
      kept: 'topk_group',
      score: defaults.groupScore ?? 'top2_sum',
      defaults: defaults.groups,
    },
  })
}

/** Top-k of the logits, then softmax. */
export const topkSoftmax: Routing = (_config, sizes) => ({ scoringFunc: 'topk_softmax', ...sizes })
