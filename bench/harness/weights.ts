/** The weights of a benchmark's layers: random, of the shape's sizes, as checkpoints hold them. */

import { type LayerData, makeLayerData } from '../../test/cases/layer-data.js'
import { fromFloat32, type MoeConfig, toFloat32 } from './package.js'
import { inStoredForm } from './stored-weights.js'
import { arithmeticOf, isStoredForm, type WeightKind } from './weight-kinds.js'

/** Experts of that kind. The router's values are of bf16, in which the checkpoints of these shapes store it whatever they are computed in. */
export function makeBenchWeights(
  shape: { name: string; config: MoeConfig },
  kind: WeightKind,
): Pick<LayerData, 'config' | 'weights'> {
  const { config, weights } = makeLayerData({ ...shape, numTokens: 1, load: 'gate' }, arithmeticOf(kind))
  const { router } = weights
  if (router) router.weight = toFloat32(fromFloat32(router.weight as Float32Array, 'bf16'), 'bf16')
  return { config, weights: isStoredForm(kind) ? inStoredForm(config, weights, kind) : weights }
}
