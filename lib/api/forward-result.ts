/** What a forward gives. */

import { allocate } from '../block/allocate.js'
import type { Work } from '../block/cost.js'
import type { HiddenStates } from './float-input.js'

/** What a forward gives. */
export interface ForwardResult<H extends HiddenStates = HiddenStates> {
  /** `[numTokens, hiddenSize]`, of the input's type: routed plus shared experts, no residual. */
  output: H
  numTokens: number
  /** `[numTokens, topK]`: falling selection score, ties to the lower index; −1 for a slot that topK, topP or capacity dropped. */
  topkIds: Int32Array
  /** `[numTokens, topK]`: the factors of the expert outputs, scaling factor included; 0 in dropped slots. */
  topkWeights: Float32Array
  /** Rows whose router logits or output were not finite; normally empty. */
  nonFiniteRows: Int32Array
  /** What this call computed and read, as if it ran alone. */
  work: Work
  /** With `options.rows`: the same for each owner of rows, as if its rows ran alone. */
  workOf?: ReadonlyMap<number, Work>
}

/** Indices of the rows that are flagged. */
export function flaggedRows(flags: Uint8Array): Int32Array {
  let count = 0
  for (const flag of flags) count += flag === 0 ? 0 : 1
  const rows = allocate(Int32Array, count)
  if (count > 0) for (let row = 0, next = 0; row < flags.length; row++) if (flags[row]) rows[next++] = row
  return rows
}
