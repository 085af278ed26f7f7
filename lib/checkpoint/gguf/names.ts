/** The names of llama.cpp for what the rows of lib/families name as published. Conditions and counts stay those of the row. */

import { isGated } from '../../families/parts/expert-layouts.js'
import type { ExpertLayout, NamedTensor, Naming, SharedLayout } from '../../families/parts/family.js'

/** A layer; everything of a block stands below it. */
export const LAYER_NAME = 'blk.{L}.'

/** Any of these makes a layer one with experts. */
export const SPARSE_TENSOR =
  /^blk\.(\d+)\.ffn_(gate_inp|(gate|up|gate_up|down)_exps|(gate|up|down)\.\d+)\.weight$/

/** Its tensor has the experts by token id. */
export const HASH_TENSOR = /^blk\.(\d+)\.ffn_gate_tid2eid\b/

/** The selection bias, below a layer. */
export const DECISIVE_BIAS = /^exp_probs_b\b/

/**
 * Other tensors below a layer that change what its block computes. Not among them: norms before and after the block, a dense MLP beside it (Gemma
 * 4), and scales of quantised activations.
 */
export const DECISIVE_TENSOR =
  /^(ffn_(?!(norm|gate|up|down|act|sub_norm|post_norm\w*|pre_norm\w*|res_\w+)\.)\w+)\b(?!\.(weight\.)?input_scale$)/

const renamed = (tensor: NamedTensor | undefined, ...names: string[]): NamedTensor | undefined =>
  tensor && { ...tensor, names }

/** Old files of Mixtral have a tensor for each expert. */
function expertsOf(published: readonly ExpertLayout[]): ExpertLayout[] {
  const gated = published.every(isGated)
  const bias = published.flatMap(layout => (layout.kind !== 'stackedRows' && layout.bias) || [])[0]
  const down = 'ffn_down_exps.weight'
  const apart: ExpertLayout = {
    kind: 'fused',
    ...(gated ? { gate: 'ffn_gate_exps.weight' } : {}),
    up: 'ffn_up_exps.weight',
    down,
    major: 'output',
    bias,
  }
  const single: ExpertLayout = {
    kind: 'perExpert',
    ...(gated ? { gate: 'ffn_gate.{e}' } : {}),
    up: 'ffn_up.{e}',
    down: 'ffn_down.{e}',
    bias,
  }
  const together: ExpertLayout = {
    kind: 'fused',
    gateUp: 'ffn_gate_up_exps.weight',
    down,
    major: 'output',
    bias,
  }
  return gated ? [apart, together, single] : [apart, single]
}

function sharedOf(published: Naming['shared']): SharedLayout | undefined {
  const [first] = [published ?? []].flat()
  if (!first) return undefined
  const { count, bias, weight, averaged } = first
  return {
    count,
    ...((first.gate ?? first.gateUp) ? { gate: 'ffn_gate_shexp' } : {}),
    up: 'ffn_up_shexp',
    down: 'ffn_down_shexp',
    bias,
    ...(weight ? { weight: { ...weight, names: ['ffn_gate_inp_shexp.weight'] } } : {}),
    averaged,
  }
}

/** A row's naming in llama.cpp's names. */
export function ggufNaming({ router, experts, shared, latent }: Naming): Naming {
  return {
    layer: LAYER_NAME,
    block: '',
    router: {
      weight: ['ffn_gate_inp.weight'],
      bias: renamed(router.bias, 'ffn_gate_inp.bias'),
      selectionBias: renamed(router.selectionBias, 'exp_probs_b.bias', 'exp_probs_b'),
      perExpertScale: renamed(router.perExpertScale, 'ffn_down_exps.scale'),
      inputScale: renamed(router.inputScale, 'ffn_gate_inp.scale'),
      hashTable: renamed(router.hashTable, 'ffn_gate_tid2eid.weight', 'ffn_gate_tid2eid'),
    },
    experts: expertsOf(experts),
    shared: sharedOf(shared),
    ...(latent
      ? {
          latent: {
            down: 'ffn_latent_down',
            up: 'ffn_latent_up',
            ...(latent.norm ? { norm: 'ffn_norm_exps' } : {}),
          },
        }
      : {}),
  }
}
