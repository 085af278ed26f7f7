/** `activations: 'int8'` on the reference: rows become codes, in double precision, before they meet a matrix of integers. */

import { noInt8Matrix } from '../../block/activations.js'
import type { LayerWeightFormat } from '../../block/weight-format.js'
import type { Int8Matrix } from '../../checkpoint/load/int8-matrices.js'
import type { ExpertTensors } from '../../reference/expert.js'
import { throughInt8 } from '../../reference/int8-rows.js'
import type { Matrix } from '../../reference/matrix.js'
import type { LayerTensors } from '../../reference/tensors.js'

/**
 * The same tensors; the matrices that are named multiply codes.
 *
 * @throws {@link MoeError} ERR_MOE_UNSUPPORTED_FORMAT where none is named
 */
export function withInt8Activations(
  tensors: LayerTensors,
  matrices: readonly Int8Matrix[],
  { gate, up, down }: LayerWeightFormat,
): LayerTensors {
  if (matrices.length === 0)
    throw noInt8Matrix(
      'reference',
      [gate ?? [], up, down].flat().map(({ stored }) => stored),
    )
  const experts = tensors.experts.map(expert => ({ ...expert }))
  const shared = tensors.shared && { ...tensors.shared }
  for (const { role, expert, matrix, order } of matrices) {
    const mlp = role === 'shared' ? shared : experts[expert]
    for (const name of matrix === 'gateUp' ? (['gate', 'up'] as const) : [matrix]) {
      if (mlp?.[name]) Object.assign(mlp, { [name]: coded(mlp[name], order) })
    }
  }
  return { ...tensors, experts, shared }
}

const coded = (matrix: NonNullable<ExpertTensors['gate']>, order: Int32Array | null): Matrix => ({
  ...matrix,
  roundRow: row => throughInt8(row, order),
})
