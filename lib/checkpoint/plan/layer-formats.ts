/** The formats of a layer's matrices, by their places in the layer. */

import type { ResolvedMoeConfig } from '../../block/config.js'
import {
  type ExpertsWeightFormat,
  type LayerWeightFormat,
  type MatrixWeightFormat,
  type MlpWeightFormat,
  uniformFormat,
} from '../../block/weight-format.js'
import type { MatrixItem } from './layer-plan.js'

/** A matrix by its place. */
export type MatrixPlace = Pick<MatrixItem, 'role' | 'expert' | 'matrix'>

/**
 * Puts the formats of a layer's matrices in their places.
 *
 * @param own of a matrix that no item names
 * @param describe the format of an item, by its index
 */
export function assembleFormats(
  config: ResolvedMoeConfig,
  items: readonly MatrixPlace[],
  own: MatrixWeightFormat,
  describe: (index: number) => MatrixWeightFormat,
): LayerWeightFormat {
  const { numExperts, gated, numSharedExperts, latentSize } = config
  type Filled = Record<'gate' | 'up' | 'down', MatrixWeightFormat>
  const blank = (): Filled => ({ gate: own, up: own, down: own })
  const experts = Array.from({ length: numExperts }, blank)
  const shared = blank()
  const latent = blank()
  items.forEach((item, index) => {
    const place = item.role === 'shared' ? shared : item.role === 'latent' ? latent : experts[item.expert]!
    const format = describe(index)
    for (const matrix of item.matrix === 'gateUp' ? (['gate', 'up'] as const) : [item.matrix])
      place[matrix] = format
  })
  if (items.length === 0) return uniformFormat(config, own)
  const alike = (a: MatrixWeightFormat, b: MatrixWeightFormat) =>
    a.stored === b.stored && a.held === b.held && a.bitsPerWeight === b.bitsPerWeight
  const ofExperts = (matrix: 'gate' | 'up' | 'down'): ExpertsWeightFormat => {
    const all = experts.map(expert => expert[matrix])
    const first = all[0] ?? own
    return all.every(format => alike(format, first)) ? first : Object.freeze(all)
  }
  const mlp = <Format>(of: (matrix: 'gate' | 'up' | 'down') => Format): MlpWeightFormat<Format> => ({
    ...(gated ? { gate: of('gate') } : {}),
    up: of('up'),
    down: of('down'),
  })
  return Object.freeze({
    ...mlp(ofExperts),
    ...(numSharedExperts > 0 ? { shared: mlp(matrix => shared[matrix]) } : {}),
    ...(latentSize > 0 ? { latent: { down: latent.down, up: latent.up } } : {}),
  })
}
