/** Model types that are not read, each with its reason: a model that nearly fits a row must not be taken for it. */

const REASONS: readonly [pattern: RegExp, reason: string][] = [
  [
    /^ernie4_5_(moe_vl|vl_moe)$/,
    'it has two sets of experts, and the type of each token (text or vision) decides between them, which a forward is not told',
  ],
  [
    /^zaya/,
    'its router is a network with a state that passes from layer to layer, so a layer alone does not decide',
  ],
]

/** Why a model type is not read; undefined where nothing is known of it. */
export function refusalOf(modelType: string): string | undefined {
  const name = modelType.toLowerCase().replace(/_text$/, '')
  return REASONS.find(([pattern]) => pattern.test(name))?.[1]
}
