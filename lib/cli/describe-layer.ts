/** A layer's config and weights in words. */

import type { ResolvedMoeConfig } from '../block/config.js'
import type { LayerWeightFormat } from '../block/weight-format.js'
import { SCORING_WORDS } from '../spec/enums.js'
import { formatCount, plural } from './format.js'

/** The routing rule as one sentence, in the order in which it is applied. */
export function describeRouting(config: ResolvedMoeConfig): string {
  const parts: string[] = []
  if (config.logitSoftcap > 0) parts.push(`logits capped at ±${config.logitSoftcap}`)
  parts.push(SCORING_WORDS[config.scoringFunc])
  if (config.numExpertGroups > 1) {
    const score = config.groupScore === 'max' ? 'by their best expert' : 'by the sum of their two best'
    parts.push(`best ${config.topkGroup} of ${config.numExpertGroups} groups ${score}`)
  }
  parts.push(config.hashRouted ? `${config.topK} experts from the token-id table` : `top ${config.topK}`)
  if (config.normTopkProb && config.normalization !== 'none') {
    const order =
      config.normalization === 'p' && config.normValue !== 1 ? ` by their ${config.normValue}-norm` : ''
    parts.push(`weights renormalised${order}`)
  }
  if (config.routedScalingFactor !== 1) parts.push(`scaled by ${config.routedScalingFactor}`)
  if (config.capacity) {
    parts.push(
      config.capacity.kind === 'per_sequence'
        ? `at most ${plural(config.capacity.expertCapacity, 'token')} of a sequence per expert`
        : 'a limited number of tokens per expert',
    )
  }
  return parts.join(', ')
}

/** The experts' arithmetic. */
export function describeExpert(config: ResolvedMoeConfig): string {
  const beta = config.swigluAlpha === 1 ? '' : `, β = ${config.swigluAlpha}`
  const act = beta === '' ? config.activation : 'swish'
  const formula = config.gated
    ? `down(${act}(gate x${beta}) · ${config.swigluUpOffset === 0 ? 'up x' : `(up x + ${config.swigluUpOffset})`})`
    : `down(${act}(up x))`
  const limit = config.swigluLimit > 0 ? `, clamped at ${config.swigluLimit}` : ''
  const latent = config.latentSize > 0 ? `, in a latent space of ${formatCount(config.latentSize)}` : ''
  const weight = config.weightOn === 'input' ? ', routing weight on its input' : ''
  return formula + limit + latent + weight
}

/** Label and value of each line of the summary. */
export function describeLayer(config: ResolvedMoeConfig): [string, string][] {
  const rows: [string, string][] = [
    [
      'sizes',
      `hidden ${formatCount(config.hiddenSize)} · ${plural(config.numExperts, 'expert')} of ` +
        `${formatCount(config.intermediateSize)} · ${config.topK} per token`,
    ],
    ['routing', describeRouting(config)],
    ['expert', describeExpert(config)],
  ]
  if (config.numIdentityExperts > 0)
    rows.push(['identity', plural(config.numIdentityExperts, 'identity expert')])
  if (config.numSharedExperts > 0) {
    const gate = { plain: '', sigmoid: ', gated by a sigmoid', mix: ', mixed in by a sigmoid' }[
      config.sharedGate
    ]
    rows.push([
      'shared',
      `${plural(config.numSharedExperts, 'shared expert')}, ${formatCount(config.sharedIntermediateSize)} wide${gate}`,
    ])
  }
  return rows
}

/** Each form of the experts' matrices once: 'q4_K as u4 (4.63 bits), q6_K as u6 (6.57 bits)'. */
export function describeWeights({ gate, up, down }: LayerWeightFormat): string {
  const formats = [gate ?? [], up, down].flat()
  const texts = formats.map(({ stored, held, bitsPerWeight }) =>
    stored === held ? stored : `${stored} as ${held} (${Number(bitsPerWeight.toFixed(2))} bits)`,
  )
  return [...new Set(texts)].join(', ')
}
