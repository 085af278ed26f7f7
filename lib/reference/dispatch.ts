/** Grouping of slots by expert. */

import { allocate } from '../block/allocate.js'
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
 * @throws TypeError `ERR_MOE_INVALID_ARG_TYPE`; RangeError `ERR_MOE_INVALID_ARG_VALUE`; {@link MoeError} ERR_MOE_OUT_OF_MEMORY
 */
export function dispatch(topkIds: ArrayLike<number>, numExperts: number): Dispatch {
  checkIntegers('topkIds', topkIds)
  checkInteger('numExperts', numExperts, 1, MAX_EXPERTS)
  const expertOffsets = allocate(Int32Array, numExperts + 1)
  const sortedSlots = allocate(Int32Array, topkIds.length).fill(-1)
  const isExpert = (id: number) => id >= 0 && id < numExperts
  for (let slot = 0; slot < topkIds.length; slot++) {
    const id = topkIds[slot]!
    if (isExpert(id)) expertOffsets[id + 1]!++
  }
  for (let e = 0; e < numExperts; e++) expertOffsets[e + 1]! += expertOffsets[e]!
  const next = allocate(Int32Array, expertOffsets)
  for (let slot = 0; slot < topkIds.length; slot++) {
    const id = topkIds[slot]!
    if (isExpert(id)) sortedSlots[next[id]!++] = slot
  }
  return { expertOffsets, sortedSlots }
}
