/** How the columns of a matrix are grouped, which only the tensor of group indices itself tells. */

import { allocate } from '../../block/allocate.js'
import type { LayerPlan, MatrixItem } from '../plan/layer-plan.js'
import { int32Of } from './elements.js'
import { FileSet } from './files.js'

/**
 * - `inOrder`: column c belongs to group c / groupSize, or no group was ever set (−1 everywhere)
 * - `even`: every group has `groupSize` columns, the last one what is left: a device can hold the columns in the order of their groups
 * - `uneven`: some have more or fewer, or the indices are damaged: the matrix can only be decoded
 */
export type GroupOrder = 'inOrder' | 'even' | 'uneven'

/** @param bytes the indices, i32 */
export function groupOrder(bytes: Uint8Array, cols: number, groupSize: number): GroupOrder {
  if (bytes.byteLength !== 4 * cols) return 'uneven'
  const index = int32Of(bytes)
  const numGroups = Math.ceil(cols / groupSize)
  const counts = allocate(Uint32Array, numGroups)
  let isInOrder = true
  for (let col = 0; col < cols; col++) {
    const group = index[col]!
    if (group !== Math.floor(col / groupSize)) isInOrder = false
    if (group >= 0 && group < numGroups) counts[group]!++
  }
  if (isInOrder || index.every(group => group === -1)) return 'inOrder'
  const isEven = counts.every((count, group) => count === Math.min(groupSize, cols - group * groupSize))
  return isEven ? 'even' : 'uneven'
}

/**
 * A matrix with what its group indices say: without them where they say nothing, marked where groups are uneven.
 *
 * @param bytes the indices, i32
 */
export function withGroupOrder({ groupIndex, ...item }: MatrixItem, bytes: Uint8Array): MatrixItem {
  const order = groupOrder(bytes, item.cols, item.encoding.block?.cols ?? item.cols)
  if (order === 'inOrder') return item
  return {
    ...item,
    ...(groupIndex ? { groupIndex } : {}),
    ...(order === 'uneven' ? { unevenGroups: true } : {}),
  }
}

/**
 * Reads the group indices of a plan's matrices.
 *
 * @throws ERR_MOE_IO
 */
export async function withGroupOrders(
  plan: Pick<LayerPlan, 'files' | 'openFiles' | 'matrices'>,
  signal?: AbortSignal,
): Promise<readonly MatrixItem[]> {
  const { matrices } = plan
  if (!matrices.some(({ groupIndex }) => groupIndex)) return matrices
  const set = new FileSet(plan, signal)
  try {
    const result: MatrixItem[] = []
    for (const item of matrices)
      result.push(item.groupIndex ? withGroupOrder(item, await set.read(item.groupIndex)) : item)
    return result
  } finally {
    await set.close()
  }
}
