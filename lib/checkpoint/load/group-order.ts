/** Whether the columns of a matrix lie in the order of their groups, which only the tensor of group indices itself tells. */

import type { MatrixItem } from '../plan/layer-plan.js'
import { FileSet } from './files.js'

/** Column c belongs to group c / groupSize, or no group was ever set (−1 everywhere). */
function isInOrder(bytes: Uint8Array, cols: number, groupSize: number): boolean {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength)
  if (bytes.byteLength !== 4 * cols) return false
  const isUnset = view.getInt32(0, true) === -1
  for (let col = 0; col < cols; col++) {
    const expected = isUnset ? -1 : Math.floor(col / groupSize)
    if (view.getInt32(4 * col, true) !== expected) return false
  }
  return true
}

/**
 * Leaves out group indices that say nothing: a matrix without them can be held as it is stored.
 *
 * @throws ERR_MOE_IO
 */
export async function withoutTrivialGroups(
  files: readonly string[],
  items: readonly MatrixItem[],
  signal?: AbortSignal,
): Promise<MatrixItem[]> {
  if (!items.some(({ groupIndex }) => groupIndex)) return [...items]
  const set = new FileSet(files, signal)
  try {
    const result: MatrixItem[] = []
    for (const item of items) {
      const { groupIndex, ...rest } = item
      const groupSize = item.encoding.block?.cols ?? item.cols
      const isTrivial = groupIndex && isInOrder(await set.read(groupIndex), item.cols, groupSize)
      result.push(isTrivial ? rest : item)
    }
    return result
  } finally {
    await set.close()
  }
}
