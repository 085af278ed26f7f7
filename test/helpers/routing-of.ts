import type { ResolvedMoeConfig } from '../../lib/block/config.js'
import type { ResolvedRouting } from '../../lib/block/routing.js'

/** The routing fields of a resolved config. */
export function routingOf(config: ResolvedMoeConfig): ResolvedRouting {
  return {
    scoringFunc: config.scoringFunc,
    hashRouted: config.hashRouted,
    numExperts: config.numExperts,
    numIdentityExperts: config.numIdentityExperts,
    topK: config.topK,
    numExpertGroups: config.numExpertGroups,
    topkGroup: config.topkGroup,
    groupScore: config.groupScore,
    normTopkProb: config.normTopkProb,
    normalization: config.normalization,
    normValue: config.normValue,
    routedScalingFactor: config.routedScalingFactor,
    logitSoftcap: config.logitSoftcap,
    sparsemixerEpsilon: config.sparsemixerEpsilon,
    capacity: config.capacity,
  }
}
