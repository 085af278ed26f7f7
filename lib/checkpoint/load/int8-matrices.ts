/** Which matrices `activations: 'int8'` is for, and the order in which their columns make blocks: for the device `reference`. */

import { allocate } from '../../block/allocate.js'
import type { ResolvedMoeConfig } from '../../block/config.js'
import type { WeightsOption } from '../../block/weight-format.js'
import type { MatrixPlace } from '../plan/layer-formats.js'
import type { EncodedSource, LayerPlan } from '../plan/layer-plan.js'
import { int32Of } from './elements.js'
import { FileSet } from './files.js'
import { groupOrder } from './group-order.js'
import type { CodedMatrix } from './quantized-weights.js'

/** A matrix that rows of codes are multiplied by. */
export interface Int8Matrix extends MatrixPlace {
  /** Its columns as it stores them: the first 32 make the first block. `null`: as the layer has them. */
  readonly order: Int32Array | null
}

/** What is to know of a stored matrix. */
type Source = Pick<EncodedSource, 'encoding'> & { columnScale?: unknown }

/** Blocks of other lengths have no place in what devices hold. */
const SUMMED = 16

/** Whether a matrix is stored as integers with scales, in a form that devices hold: floats, fp8 among them, are not. */
export function hasIntegerCodes({ encoding, columnScale }: Source, cols: number): boolean {
  const { codec, block } = encoding
  if (codec === 'float' || columnScale !== undefined) return false
  return !block || block.cols >= cols || block.cols % SUMMED === 0
}

/**
 * Columns in the order of their groups, those of a group as they stand; `null`: that is their order.
 *
 * @param bytes the group of each column, i32
 * @returns `undefined` where groups have other sizes than `groupSize`
 */
function columnOrder(bytes: Uint8Array, cols: number, groupSize: number): Int32Array | null | undefined {
  const order = groupOrder(bytes, cols, groupSize)
  if (order !== 'even') return order === 'inOrder' ? null : undefined
  const groups = int32Of(bytes)
  return allocate(Int32Array, cols)
    .map((_, col) => col)
    .sort((a, b) => groups[a]! - groups[b]! || a - b)
}

/**
 * A matrix as rows of codes meet it.
 *
 * @param groupIndex the group of each column, i32
 * @returns `null` where they do not: it is no integers, or it is decoded
 */
export function int8Matrix(
  place: MatrixPlace,
  source: Source,
  cols: number,
  weights: WeightsOption,
  groupIndex?: Uint8Array,
): Int8Matrix | null {
  const { role, expert, matrix } = place
  if (role === 'latent' || weights === 'expand') return null
  if (weights === 'int8' || weights === 'int4') return { role, expert, matrix, order: null }
  if (!hasIntegerCodes(source, cols)) return null
  const order = groupIndex ? columnOrder(groupIndex, cols, source.encoding.block?.cols ?? cols) : null
  return order === undefined ? null : { role, expert, matrix, order }
}

/** Those of a caller's weights: `codes` are the matrices that are not floats. */
export function givenInt8Matrices(
  { numExperts, gated, numSharedExperts }: ResolvedMoeConfig,
  codes: readonly CodedMatrix[],
  weights: WeightsOption,
): Int8Matrix[] {
  if (weights !== 'int8' && weights !== 'int4') {
    return codes.flatMap(({ encoding, buffers, cols, ...place }) => {
      const groups = buffers.groupIndex?.bytes
      return int8Matrix(place, { encoding, ...buffers }, cols, weights, groups) ?? []
    })
  }
  const names = gated ? (['gate', 'up', 'down'] as const) : (['up', 'down'] as const)
  const mlp = (role: MatrixPlace['role'], expert: number): Int8Matrix[] =>
    names.map(matrix => ({ role, expert, matrix, order: null }))
  const experts = Array.from({ length: numExperts }, (_, expert) => mlp('expert', expert)).flat()
  return numSharedExperts > 0 ? [...experts, ...mlp('shared', 0)] : experts
}

/**
 * Those of a plan.
 *
 * @throws {@link MoeError} ERR_MOE_IO; or rejects with `signal.reason`
 */
export async function plannedInt8Matrices(
  plan: Pick<LayerPlan, 'files' | 'openFiles' | 'matrices'>,
  weights: WeightsOption,
  signal?: AbortSignal,
): Promise<Int8Matrix[]> {
  const set = new FileSet(plan, signal)
  try {
    const result: Int8Matrix[] = []
    for (const item of plan.matrices) {
      const groups = item.groupIndex && (await set.read(item.groupIndex))
      const matrix = int8Matrix(item, item, item.cols, weights, groups)
      if (matrix) result.push(matrix)
    }
    return result
  } finally {
    await set.close()
  }
}
