/** `reference.selectExperts`: checks its arguments and selects for every token. */

import { allocate } from '../block/allocate.js'
import {
  checkOptionKeys,
  invalidArgShape,
  invalidArgType,
  invalidArgValue,
  missingInput,
} from '../block/errors.js'
import { resolveRoutingConfig } from '../block/resolve.js'
import type { ResolvedRouting, RoutingConfig } from '../block/routing.js'
import { isFloat32Array, isUint8Array } from '../block/typed-arrays.js'
import { checkInteger, checkIntegers, checkNumbers } from './arguments.js'
import { drain, type Numbers } from './matrix.js'
import { flaggedRows, type SelectCall, Selector } from './select.js'

/** Options of `selectExperts` and `selectionMargins`. */
export interface ReferenceSelectOptions {
  /** Experts kept per token: one figure, or one per row `[T]`. @defaultValue routing.topK */
  topK?: number | Uint8Array
  /** In (0, 1], one figure, or one per row `[T]`: the fewest of those kept whose share of their weight reaches it. @defaultValue 1 */
  topP?: number | Float32Array
  /** `[T]`, for hash-routed rules. */
  tokenIds?: ArrayLike<number>
  /** Tokens per sequence, summing to T; for capacity rules. @defaultValue one sequence */
  sequenceLengths?: ArrayLike<number>
}

/** Checks what a call adds to the rule, and writes out its defaults. */
export function checkSelectCall(
  routing: ResolvedRouting,
  options: ReferenceSelectOptions,
  numTokens: number,
): SelectCall {
  const { topK = routing.topK, topP = 1, tokenIds = null, sequenceLengths = null } = options
  if (typeof topK === 'number') {
    if (!Number.isInteger(topK) || topK < 0 || topK > routing.topK)
      throw invalidArgValue('options.topK', `an integer from 0 to ${routing.topK}`, topK)
  } else {
    if (!isUint8Array(topK)) throw invalidArgType('options.topK', 'a number or a Uint8Array', topK)
    if (topK.length !== numTokens)
      throw invalidArgShape('options.topK', `${numTokens} rows`, `${topK.length}`)
    const above = topK.find(rowTopK => rowTopK > routing.topK)
    if (above !== undefined)
      throw invalidArgValue('options.topK', `integers from 0 to ${routing.topK}`, above)
  }
  const shares = typeof topP === 'number' ? [topP] : topP
  if (shares === topP) {
    if (!isFloat32Array(topP)) throw invalidArgType('options.topP', 'a number or a Float32Array', topP)
    if (topP.length !== numTokens)
      throw invalidArgShape('options.topP', `${numTokens} rows`, `${topP.length}`)
  }
  const outside = Array.from(shares).find(share => !(share > 0 && share <= 1))
  if (outside !== undefined)
    throw invalidArgValue('options.topP', 'a number in (0, 1], or one for each row', outside)
  if (tokenIds !== null) checkIntegers('options.tokenIds', tokenIds)
  if (sequenceLengths !== null) checkIntegers('options.sequenceLengths', sequenceLengths)
  if (routing.hashRouted && !tokenIds) throw missingInput('options.tokenIds', 'the rule is hash-routed')
  if (tokenIds && tokenIds.length !== numTokens)
    throw invalidArgShape('options.tokenIds', `${numTokens} ids`, `${tokenIds.length}`)
  if (sequenceLengths) {
    let sum = 0
    for (let i = 0; i < sequenceLengths.length; i++)
      sum += checkInteger(`options.sequenceLengths[${i}]`, sequenceLengths[i], 0, numTokens)
    if (sum !== numTokens)
      throw invalidArgShape('options.sequenceLengths', `lengths that sum to ${numTokens}`, `${sum}`)
  }
  return { topK, topP: typeof topP === 'number' ? topP : Float64Array.from(topP), tokenIds, sequenceLengths }
}

/** Rows of `[T, R]` logits. */
export function rowsOfLogits(routerLogits: Numbers, routing: ResolvedRouting): Numbers[] {
  checkNumbers('routerLogits', routerLogits)
  const size = routing.numExperts + routing.numIdentityExperts
  if (routerLogits.length % size !== 0)
    throw invalidArgShape('routerLogits', `a multiple of ${size} router outputs`, `${routerLogits.length}`)
  return Array.from({ length: routerLogits.length / size }, (_, t) =>
    routerLogits.slice(t * size, (t + 1) * size),
  )
}

/** Keys of {@link ReferenceSelectOptions}. */
export const SELECT_OPTION_KEYS = ['topK', 'topP', 'tokenIds', 'sequenceLengths']

/**
 * Experts and weights of each token.
 *
 * Soft-cap, scores, selection bias, groups, top-k (ties to the lower index), the call's top-k and top-p, capacity, normalisation over what is
 * left, `routedScalingFactor`, `perExpertScale`: in that order. A row with a logit that is not finite gets the ids 0 … topK−1 and
 * NaN weights.
 *
 * @param routerLogits `[T, R]`, R = numExperts + numIdentityExperts
 * @returns topkIds and topkWeights `[T, topK]`, by falling selection score (hash-routed: in the table's order); −1 and 0 in
 * dropped slots
 * @throws as `resolveRouting`; RangeError `ERR_MOE_INVALID_ARG_SHAPE`; TypeError `ERR_MOE_MISSING_INPUT`.
 */
export function selectExperts(
  routerLogits: Numbers,
  routing: RoutingConfig,
  options: ReferenceSelectOptions = {},
): { topkIds: Int32Array; topkWeights: Float64Array; nonFiniteRows: Int32Array } {
  checkOptionKeys(options, SELECT_OPTION_KEYS)
  const { routing: rule, vectors } = resolveRoutingConfig(routing)
  const rows = rowsOfLogits(routerLogits, rule)
  const output = {
    topkIds: allocate(Int32Array, rows.length * rule.topK),
    topkWeights: allocate(Float64Array, rows.length * rule.topK),
    nonFinite: allocate(Uint8Array, rows.length),
  }
  const selector = new Selector(rule, vectors, checkSelectCall(rule, options, rows.length), output)
  rows.forEach((row, token) => {
    selector.row(token, row)
  })
  drain(selector.finish())
  return {
    topkIds: output.topkIds,
    topkWeights: output.topkWeights,
    nonFiniteRows: flaggedRows(output.nonFinite),
  }
}
