/** What a selection bias may hold: numbers, and minus infinity for experts that are masked out. */

import { MoeError } from './errors.js'
import type { ResolvedRouting } from './routing.js'

/** The least number of unmasked experts that a token can be left with: of groups, those that are kept may be the worst ones. */
function leastUnmasked(bias: Float32Array, routing: ResolvedRouting): number {
  const { numExpertGroups, topkGroup, groupScore } = routing
  const size = bias.length / numExpertGroups
  const counts = Array.from(
    { length: numExpertGroups },
    (_, g) =>
      bias.subarray(g * size, (g + 1) * size).filter(value => value !== Number.NEGATIVE_INFINITY).length,
  )
  const sum = (values: readonly number[]) => values.reduce((all, count) => all + count, 0)
  if (numExpertGroups === 1) return sum(counts)
  // The experts of groups that are left out rank with 0: they are all there to choose.
  if (groupScore === 'top2_sum_zeroed') {
    const masked = counts.map(count => size - count).sort((a, b) => b - a)
    return bias.length - sum(masked.slice(0, topkGroup))
  }
  // A group whose score is minus infinity is kept only where there are too few others; ties go to the lower index.
  const needed = groupScore === 'top2_sum' ? Math.min(2, size) : 1
  const scored = counts.filter(count => count >= needed)
  if (scored.length >= topkGroup) return sum([...scored].sort((a, b) => a - b).slice(0, topkGroup))
  return sum(scored) + sum(counts.filter(count => count < needed).slice(0, topkGroup - scored.length))
}

/**
 * Checks the values of a selection bias. `name` and `file` say whose.
 * @throws {@link MoeError} ERR_MOE_INVALID_CHECKPOINT for NaN, for plus infinity, and where fewer than `topK` experts are unmasked
 */
export function checkSelectionBias(
  bias: Float32Array,
  routing: ResolvedRouting,
  name: string,
  file?: string,
): void {
  const invalid = (problem: string, details: object = {}) =>
    new MoeError('ERR_MOE_INVALID_CHECKPOINT', `${file ? `${file}: tensor '${name}'` : name} ${problem}`, {
      details: { ...(file ? { file } : {}), tensor: name, ...details },
    })
  const at = bias.findIndex(value => Number.isNaN(value) || value === Number.POSITIVE_INFINITY)
  if (at >= 0) {
    throw invalid(
      `is ${bias[at]} at expert ${at}; a selection bias holds numbers, or -Infinity for an expert that is masked out`,
      { expert: at },
    )
  }
  const unmasked = leastUnmasked(bias, routing)
  if (unmasked < routing.topK) {
    throw invalid(
      `masks all but ${unmasked} of the experts that a token can be left with, where ${routing.topK} are chosen`,
      { unmasked, topK: routing.topK },
    )
  }
}
