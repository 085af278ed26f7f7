/** Names of the fields that many configs share. */

/** Sizes of a block: experts under `num_experts`, `num_local_experts` or `n_routed_experts`. */
export const SIZES = { hiddenSize: 'hidden_size', numExperts: 'num_experts', topK: 'num_experts_per_tok' }
export const LOCAL_SIZES = { ...SIZES, numExperts: 'num_local_experts' }
export const ROUTED_SIZES = { ...SIZES, numExperts: 'n_routed_experts' }

export const LAYERS = { numLayers: 'num_hidden_layers' }
