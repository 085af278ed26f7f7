/** Writes out a routing rule's defaults for the backends, and refuses fields that exclude each other. */

import { CAPACITIES, GROUP_SCORES, isScored, SCORING_FUNCS } from '../spec/enums.js'
import { describeValue, invalidArgShape, invalidArgType, invalidArgValue, missingInput } from './errors.js'
import { type Fields, fieldsOf } from './option-fields.js'
import type { ResolvedRouting, RoutingConfig, RoutingRule, RoutingVectors } from './routing.js'
import { checkSelectionBias } from './selection-bias.js'
import { isFloat32Array, isInt32Array } from './typed-arrays.js'

/** Most router outputs (real and identity experts) that a layer may have. */
export const MAX_EXPERTS = 65536

/** Greatest size of one dimension. */
export const MAX_SIZE = 2 ** 31 - 1

/** Every field that a rule may have, resolved or not. */
export const ROUTING_KEYS = [
  'scoringFunc',
  'numExperts',
  'topK',
  'numIdentityExperts',
  'routedScalingFactor',
  'logitSoftcap',
  'hashRouted',
  'normTopkProb',
  'normEpsilon',
  'normFloor',
  'normOrder',
  'numExpertGroups',
  'topkGroup',
  'groupScore',
  'sparsemixerEpsilon',
  'capacity',
  'normalization',
  'normValue',
] as const

const VECTOR_KEYS = ['selectionBias', 'perExpertScale', 'hashTable'] as const

const CAPACITY_KEYS = [
  'kind',
  'expertCapacity',
  'tokenFraction',
  'normalizeBeforeDropping',
  'batchPrioritized',
] as const

type NormalizationPart = Pick<ResolvedRouting, 'normTopkProb' | 'normalization' | 'normValue'>

/** Reads `normTopkProb` with one of its three forms, or the resolved pair `normalization`, `normValue`. */
function normalizationOf(fields: Fields, selfNormalized: boolean | null): NormalizationPart {
  const resolvedForm = fields.has('normalization')
  if (resolvedForm)
    fields.refuseUnless(
      undefined,
      'nothing, since normalization says it already,',
      'normEpsilon',
      'normFloor',
      'normOrder',
    )
  else fields.refuseUnless(undefined, 'normalization with it', 'normValue')
  const kind = fields.oneOf('normalization', ['none', 'sum', 'floor', 'p'], 'none')

  if (selfNormalized !== null) {
    const scoring = fields.raw('scoringFunc')
    if (fields.boolean('normTopkProb', selfNormalized) !== selfNormalized)
      fields.refuse('normTopkProb', `${selfNormalized} or nothing with scoringFunc '${scoring}'`)
    const why = `nothing with scoringFunc '${scoring}', whose weights are ${selfNormalized ? 'normalised already' : 'never normalised'},`
    fields.refuseUnless(undefined, why, 'normEpsilon', 'normFloor', 'normOrder')
    fields.refuseUnless('none', why, 'normalization')
    fields.refuseUnless(0, why, 'normValue')
    return { normTopkProb: selfNormalized, normalization: 'none', normValue: 0 }
  }

  const normTopkProb = fields.boolean('normTopkProb')
  if (!normTopkProb) {
    const why = 'nothing with normTopkProb false'
    fields.refuseUnless(undefined, why, 'normEpsilon', 'normFloor', 'normOrder')
    fields.refuseUnless('none', why, 'normalization')
    fields.refuseUnless(0, why, 'normValue')
    return { normTopkProb, normalization: 'none', normValue: 0 }
  }
  if (resolvedForm) {
    if (kind === 'none') fields.refuse('normalization', "'sum', 'floor' or 'p' with normTopkProb true")
    const normValue = kind === 'sum' ? fields.nonNegative('normValue', 0) : fields.positive('normValue')
    return { normTopkProb, normalization: kind, normValue }
  }
  const forms = ['normEpsilon', 'normFloor', 'normOrder'].filter(key => fields.has(key))
  if (forms.length > 1) fields.refuse(forms[1]!, `nothing beside ${forms[0]}`)
  if (fields.has('normFloor'))
    return { normTopkProb, normalization: 'floor', normValue: fields.positive('normFloor') }
  if (fields.has('normOrder'))
    return { normTopkProb, normalization: 'p', normValue: fields.positive('normOrder') }
  return { normTopkProb, normalization: 'sum', normValue: fields.nonNegative('normEpsilon', 0) }
}

type GroupPart = Pick<ResolvedRouting, 'numExpertGroups' | 'topkGroup' | 'groupScore'>

function groupingOf(fields: Fields, allowed: boolean, numOutputs: number, topK: number): GroupPart {
  const numExpertGroups = fields.integer('numExpertGroups', 1, MAX_EXPERTS, 1)
  const usual = fields.raw('scoringFunc') === 'softmax' ? 'max' : 'top2_sum'
  const groupScore = fields.oneOf('groupScore', GROUP_SCORES, usual)
  if (numExpertGroups === 1) {
    fields.integer('topkGroup', 1, 1, 1)
    return { numExpertGroups: 1, topkGroup: 1, groupScore: 'max' }
  }
  if (!allowed) {
    const rule = fields.raw('hashRouted')
      ? 'hashRouted'
      : fields.has('capacity')
        ? 'capacity'
        : `scoringFunc '${fields.raw('scoringFunc')}'`
    fields.refuse('numExpertGroups', `1 with ${rule}`)
  }
  if (numOutputs % numExpertGroups !== 0)
    fields.refuse('numExpertGroups', `a divisor of the ${numOutputs} router outputs`)
  const topkGroup = fields.integer('topkGroup', 1, numExpertGroups)
  const groupSize = numOutputs / numExpertGroups
  if (groupScore !== 'max' && groupSize < 2)
    fields.refuse('groupScore', `'max' (each group has one expert, so no two best)`)
  if (topkGroup * groupSize < topK)
    fields.refuse(
      'topkGroup',
      `groups enough for topK ${topK}: topkGroup * ${groupSize} experts per group >= ${topK}`,
    )
  return { numExpertGroups, topkGroup, groupScore }
}

function capacityOf(fields: Fields, norm: NormalizationPart, topK: number): ResolvedRouting['capacity'] {
  if (!fields.has('capacity')) return null
  const capacity = fieldsOf(fields.raw('capacity'), fields.path('capacity'), CAPACITY_KEYS)
  if (fields.raw('scoringFunc') !== 'softmax')
    fields.refuse('capacity', "nothing unless scoringFunc is 'softmax'")
  if (fields.raw('hashRouted')) fields.refuse('capacity', 'nothing with hashRouted')
  fields.refuseUnless(
    0,
    '0 with capacity (an identity expert holds any number of tokens)',
    'numIdentityExperts',
  )
  const kind = capacity.oneOf('kind', CAPACITIES)
  if (kind === 'per_sequence') {
    if (topK !== 1) fields.refuse('topK', "1 with capacity.kind 'per_sequence'")
    if (norm.normTopkProb) fields.refuse('normTopkProb', "false with capacity.kind 'per_sequence'")
    const why = "nothing with kind 'per_sequence'"
    capacity.refuseUnless(0, why, 'tokenFraction')
    capacity.refuseUnless(false, why, 'normalizeBeforeDropping', 'batchPrioritized')
    return Object.freeze({
      kind,
      expertCapacity: capacity.integer('expertCapacity', 1, MAX_SIZE),
      tokenFraction: 0,
      normalizeBeforeDropping: false,
      batchPrioritized: false,
    })
  }
  if (topK !== 2) fields.refuse('topK', "2 with capacity.kind 'batch'")
  if (norm.normalization !== 'floor')
    fields.refuse('normTopkProb', "true, together with normFloor, with capacity.kind 'batch'")
  return Object.freeze({
    kind,
    expertCapacity: Math.max(0, capacity.integer('expertCapacity', -MAX_SIZE, MAX_SIZE, 0)),
    tokenFraction: capacity.nonNegative('tokenFraction', 0),
    normalizeBeforeDropping: capacity.boolean('normalizeBeforeDropping', false),
    batchPrioritized: capacity.boolean('batchPrioritized', false),
  })
}

/** Reads a rule among other fields. */
export function routingFrom(fields: Fields): ResolvedRouting {
  const scoringFunc = fields.oneOf('scoringFunc', SCORING_FUNCS)
  const numExperts = fields.integer('numExperts', 1, MAX_EXPERTS)
  const numIdentityExperts = fields.integer('numIdentityExperts', 0, MAX_EXPERTS - numExperts, 0)
  const numOutputs = numExperts + numIdentityExperts
  const topK = fields.integer('topK', 1, numOutputs)
  const scored = isScored(scoringFunc)

  const hashRouted = fields.boolean('hashRouted', false)
  if (hashRouted && !scored) fields.refuse('hashRouted', `false with scoringFunc '${scoringFunc}'`)
  const norm = normalizationOf(fields, scored ? null : scoringFunc === 'topk_softmax')
  const grouping = groupingOf(fields, scored && !hashRouted && !fields.has('capacity'), numOutputs, topK)
  const capacity = capacityOf(fields, norm, topK)

  let sparsemixerEpsilon = 0
  if (scoringFunc === 'sparsemixer') {
    if (topK !== 2) fields.refuse('topK', "2 with scoringFunc 'sparsemixer'")
    sparsemixerEpsilon = fields.nonNegative('sparsemixerEpsilon')
  } else fields.refuseUnless(0, "nothing unless scoringFunc is 'sparsemixer'", 'sparsemixerEpsilon')

  return {
    scoringFunc,
    hashRouted,
    numExperts,
    numIdentityExperts,
    topK,
    ...grouping,
    ...norm,
    routedScalingFactor: fields.positive('routedScalingFactor', 1),
    logitSoftcap: fields.nonNegative('logitSoftcap', 0),
    sparsemixerEpsilon,
    capacity,
  }
}

/**
 * Writes out every default of a routing rule and checks that it can be. A resolved rule resolves to itself.
 *
 * @throws TypeError `ERR_MOE_INVALID_ARG_TYPE` (wrong kind), `ERR_MOE_UNKNOWN_OPTION` (unknown key); RangeError
 * `ERR_MOE_INVALID_ARG_VALUE` (value out of range, or fields that exclude each other, with the reason).
 */
export function resolveRouting(rule: RoutingRule | ResolvedRouting): ResolvedRouting {
  return Object.freeze(routingFrom(fieldsOf(rule, 'routing', ROUTING_KEYS)))
}

/** Splits what `selectExperts` takes into its resolved rule and its tensors, both checked. */
export function resolveRoutingConfig(config: RoutingConfig | (ResolvedRouting & RoutingVectors)): {
  routing: ResolvedRouting
  vectors: RoutingVectors
} {
  fieldsOf(config, 'routing', [...ROUTING_KEYS, ...VECTOR_KEYS])
  const { selectionBias, perExpertScale, hashTable, ...rule } = config
  const routing = resolveRouting(rule as RoutingRule)
  const vectors = { selectionBias, perExpertScale, hashTable }
  checkRoutingVectors(routing, vectors)
  return { routing, vectors }
}

/**
 * Checks the tensors of a rule: kinds, lengths, values of the selection bias, hash table present exactly when the rule is hash-routed
 * and its ids among the router outputs.
 *
 * @throws TypeError `ERR_MOE_INVALID_ARG_TYPE`, `ERR_MOE_MISSING_INPUT` (no hash table); RangeError
 * `ERR_MOE_INVALID_ARG_SHAPE`, `ERR_MOE_INVALID_ARG_VALUE`; MoeError `ERR_MOE_INVALID_CHECKPOINT` (values of the selection bias).
 */
export function checkRoutingVectors(routing: ResolvedRouting, vectors: RoutingVectors): void {
  const numOutputs = routing.numExperts + routing.numIdentityExperts
  const { selectionBias, perExpertScale, hashTable } = vectors
  for (const [name, vector] of Object.entries({ selectionBias, perExpertScale })) {
    if (vector === undefined || vector === null) continue
    if (!isFloat32Array(vector)) throw invalidArgType(name, 'a Float32Array', vector)
    if (vector.length !== numOutputs)
      throw invalidArgShape(name, `${numOutputs} elements, one per router output,`, `${vector.length}`)
  }
  if (selectionBias) {
    const { scoringFunc, hashRouted, capacity } = routing
    const scored = isScored(scoringFunc)
    const why = hashRouted
      ? 'hashRouted'
      : capacity
        ? 'capacity'
        : scored
          ? ''
          : `scoringFunc '${scoringFunc}'`
    if (why) throw invalidArgValue('selectionBias', `nothing with ${why}`, selectionBias)
    checkSelectionBias(selectionBias, routing, 'selectionBias')
  }
  if (!routing.hashRouted) {
    if (hashTable) throw invalidArgValue('hashTable', 'nothing unless hashRouted', hashTable)
    return
  }
  if (hashTable === undefined || hashTable === null)
    throw missingInput('hashTable', 'the routing rule is hashRouted, its ids come from that table')
  if (!isInt32Array(hashTable)) throw invalidArgType('hashTable', 'an Int32Array', hashTable)
  if (hashTable.length === 0 || hashTable.length % routing.topK !== 0)
    throw invalidArgShape('hashTable', `[vocabSize, ${routing.topK}] elements`, describeValue(hashTable))
  const at = hashTable.findIndex(id => id < 0 || id >= numOutputs)
  if (at >= 0)
    throw invalidArgValue(`hashTable[${at}]`, `an expert id from 0 to ${numOutputs - 1}`, hashTable[at])
}
