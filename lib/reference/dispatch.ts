/** Grouping of slots by expert. */

import { MAX_EXPERTS } from '../block/resolve.js'
import { checkInteger, checkIntegers } from './arguments.js'

/** Slots by expert. S = T * K slots. */
export interface Dispatch {
  /** `[E + 1]`; expert e owns `sortedSlots[expertOffsets[e] … expertOffsets[e + 1] − 1]`. */
  expertOffsets: Int32Array
  /** `[S]`; slot = token * K + k, rising within an expert; −1 behind `expertOffsets[E]`. */
  sortedSlots: Int32Array
}

/**
 * Sorts slots by expert, stably. Slots whose id is −1, or otherwise not in 0 … numExperts − 1, belong to no expert.
 *
 * @param numExperts 1 to 65536
 * @throws TypeError `ERR_MOE_INVALID_ARG_TYPE`; RangeError `ERR_MOE_INVALID_ARG_VALUE`
 */
export function dispatch(topkIds: ArrayLike<number>, numExperts: number): Dispatch {
  checkIntegers('topkIds', topkIds)
  checkInteger('numExperts', numExperts, 1, MAX_EXPERTS)
  const slotsOf: number[][] = Array.from({ length: numExperts }, () => [])
  for (let slot = 0; slot < topkIds.length; slot++) slotsOf[topkIds[slot]!]?.push(slot)
  const expertOffsets = new Int32Array(numExperts + 1)
  const sortedSlots = new Int32Array(topkIds.length).fill(-1)
  slotsOf.forEach((slots, e) => {
    sortedSlots.set(slots, expertOffsets[e]!)
    expertOffsets[e + 1] = expertOffsets[e]! + slots.length
  })
  return { expertOffsets, sortedSlots }
}
