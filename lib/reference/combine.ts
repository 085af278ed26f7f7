/** The weighted sum of a token's expert outputs. */

import { allocate } from '../block/allocate.js'
import { invalidArgShape } from '../block/errors.js'
import { checkIntegers, checkNumbers, checkSizes } from './arguments.js'
import type { Numbers } from './matrix.js'

/**
 * Output `[T, H]` = Σ_k topkWeights[t, k] · expertOutput[t * K + k], in rising k.
 *
 * @param expertOutput `[T * K, H]`, row = slot
 * @param topkIds `[T, K]`, or null; slots with −1 are left out and never read
 * @param topkWeights `[T, K]`
 */
export function combine(
  expertOutput: Numbers,
  topkIds: ArrayLike<number> | null,
  topkWeights: Numbers,
  sizes: { topK: number; hiddenSize: number },
): Float64Array {
  const [topK, hiddenSize] = checkSizes(sizes, ['topK', 'hiddenSize']) as [number, number]
  checkNumbers('expertOutput', expertOutput)
  checkNumbers('topkWeights', topkWeights)
  if (topkIds !== null) checkIntegers('topkIds', topkIds)
  const numSlots = topkWeights.length
  if (numSlots % topK !== 0)
    throw invalidArgShape('topkWeights', `a multiple of topK ${topK} elements`, `${numSlots}`)
  if (topkIds && topkIds.length !== numSlots)
    throw invalidArgShape('topkIds', `${numSlots} elements`, `${topkIds.length}`)
  if (expertOutput.length !== numSlots * hiddenSize)
    throw invalidArgShape('expertOutput', `[${numSlots}, ${hiddenSize}] elements`, `${expertOutput.length}`)
  const output = allocate(Float64Array, (numSlots / topK) * hiddenSize)
  for (let slot = 0; slot < numSlots; slot++) {
    if (topkIds && topkIds[slot]! < 0) continue
    const row = Math.floor(slot / topK) * hiddenSize
    for (let h = 0; h < hiddenSize; h++)
      output[row + h] = output[row + h]! + topkWeights[slot]! * expertOutput[slot * hiddenSize + h]!
  }
  return output
}
