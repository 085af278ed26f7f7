/** The weights of a benchmark's layers: random, of the shape's sizes, as checkpoints hold them. */

import { resolveConfig } from '../../lib/block/resolve.js'
import { type LayerData, makeLayerData } from '../../test/cases/layer-data.js'
import { fromFloat32, type MoeConfig, type RouterWeights, toFloat32 } from './package.js'
import { storedExperts } from './stored-weights.js'
import { isStoredForm, type StoredForm, type WeightKind } from './weight-kinds.js'

/**
 * Experts of that kind. The router's values are of bf16, in which the checkpoints of these shapes store it whatever they are computed in.
 */
export function makeBenchWeights(
  shape: { name: string; config: MoeConfig },
  kind: WeightKind,
): Pick<LayerData, 'config' | 'weights'> {
  if (isStoredForm(kind)) return makeStoredWeights(shape, kind)
  const { config, weights } = makeLayerData({ ...shape, numTokens: 1, load: 'gate' }, kind)
  return { config, weights: { ...weights, router: rounded(weights.router) } }
}

function rounded(router: RouterWeights): RouterWeights {
  return { ...router, weight: toFloat32(fromFloat32(router.weight as Float32Array, 'bf16'), 'bf16') }
}

/** All but the experts is that of a layer whose experts are narrow: their floats would be as large as the codes are not, and are dropped. */
function makeStoredWeights(
  { name, config }: { name: string; config: MoeConfig },
  form: StoredForm,
): Pick<LayerData, 'config' | 'weights'> {
  const narrow = { ...config, intermediateSize: 1 }
  const { router } = makeLayerData({ name, config: narrow, numTokens: 1, load: 'gate' }, 'bf16').weights
  return {
    config: resolveConfig(config),
    weights: { router: rounded(router), ...storedExperts(config, form) },
  }
}
