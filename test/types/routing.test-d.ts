/** Routing is a union in which an impossible combination cannot be written; the same objects that compile are the families' rules. */

import { describe, expectTypeOf, test } from 'vitest'
import type { MoeConfig, RoutingConfig, RoutingRule } from '../../lib/index.js'

const size = { numExperts: 8, topK: 2 }

describe('rules of published families', () => {
  test('DeepSeek-V3: sigmoid, groups by the sum of two, renormalised, scaled', () => {
    const rule: RoutingRule = {
      numExperts: 256,
      topK: 8,
      scoringFunc: 'sigmoid',
      normTopkProb: true,
      normEpsilon: 1e-20,
      numExpertGroups: 8,
      topkGroup: 4,
      groupScore: 'top2_sum',
      routedScalingFactor: 2.5,
    }
    expectTypeOf(rule).toExtend<RoutingRule>()
  })
  test('Mixtral: top-k, then softmax', () => {
    const rule: RoutingRule = { ...size, scoringFunc: 'topk_softmax' }
    expectTypeOf(rule).toExtend<RoutingRule>()
  })
  test('Llama 4: top-k, then sigmoid', () => {
    const rule: RoutingRule = { ...size, topK: 1, scoringFunc: 'topk_sigmoid' }
    expectTypeOf(rule).toExtend<RoutingRule>()
  })
  test('Phi-3.5-MoE: sparsemixer with two experts', () => {
    const rule: RoutingRule = {
      numExperts: 16,
      topK: 2,
      scoringFunc: 'sparsemixer',
      sparsemixerEpsilon: 0.01,
    }
    expectTypeOf(rule).toExtend<RoutingRule>()
  })
  test('DeepSeek-V4: hash routing', () => {
    const rule: RoutingConfig = {
      ...size,
      scoringFunc: 'sqrtsoftplus',
      hashRouted: true,
      normTopkProb: true,
      hashTable: new Int32Array(2),
    }
    expectTypeOf(rule).toExtend<RoutingConfig>()
  })
  test('Switch and NLLB: capacity', () => {
    const switchRule: RoutingRule = {
      numExperts: 8,
      topK: 1,
      scoringFunc: 'softmax',
      normTopkProb: false,
      capacity: { kind: 'per_sequence', expertCapacity: 64 },
    }
    const nllb: RoutingRule = {
      numExperts: 128,
      topK: 2,
      scoringFunc: 'softmax',
      normTopkProb: true,
      normFloor: 1e-7,
      capacity: { kind: 'batch' },
    }
    expectTypeOf(switchRule).toExtend<RoutingRule>()
    expectTypeOf(nllb).toExtend<RoutingRule>()
  })
})

describe('what cannot be written', () => {
  test('a scoring function that does not exist', () => {
    // @ts-expect-error: not one of the six
    const rule: RoutingRule = { ...size, scoringFunc: 'tanh', normTopkProb: true }
    void rule
  })
  test('scored routing that does not say whether it renormalises', () => {
    // @ts-expect-error: normTopkProb is missing
    const rule: RoutingRule = { ...size, scoringFunc: 'softmax' }
    void rule
  })
  test('an epsilon without renormalisation', () => {
    // @ts-expect-error: there is nothing to divide
    const rule: RoutingRule = { ...size, scoringFunc: 'sigmoid', normTopkProb: false, normEpsilon: 1e-20 }
    void rule
  })
  test('two ways of renormalising at once', () => {
    // @ts-expect-error: epsilon or floor
    const rule: RoutingRule = {
      ...size,
      scoringFunc: 'softmax',
      normTopkProb: true,
      normEpsilon: 1e-20,
      normFloor: 1e-12,
    }
    void rule
  })
  test('renormalising what softmax over the selected has normalised', () => {
    // @ts-expect-error: topk_softmax sums to 1 by construction
    const off: RoutingRule = { ...size, scoringFunc: 'topk_softmax', normTopkProb: false }
    // @ts-expect-error: and takes no epsilon
    const epsilon: RoutingRule = {
      ...size,
      scoringFunc: 'topk_softmax',
      normTopkProb: true,
      normEpsilon: 1e-9,
    }
    void [off, epsilon]
  })
  test('renormalised sigmoid of the selected', () => {
    // @ts-expect-error: Llama 4's weights are never normalised
    const rule: RoutingRule = { ...size, scoringFunc: 'topk_sigmoid', normTopkProb: true }
    void rule
  })
  test('groups may leave the score to its default', () => {
    const rule: RoutingRule = {
      ...size,
      scoringFunc: 'sigmoid',
      normTopkProb: true,
      numExpertGroups: 4,
      topkGroup: 2,
    }
    void rule
  })
  test('a group score without groups', () => {
    // @ts-expect-error: nothing to score
    const rule: RoutingRule = { ...size, scoringFunc: 'sigmoid', normTopkProb: true, groupScore: 'max' }
    void rule
  })
  test('groups where the selection is on logits', () => {
    const rule: RoutingRule = {
      ...size,
      scoringFunc: 'topk_softmax',
      numExpertGroups: 4,
      topkGroup: 2,
      // @ts-expect-error: no family does
      groupScore: 'max',
    }
    void rule
  })
  test('sparsemixer with another k, or without its epsilon', () => {
    // @ts-expect-error: two rounds choose two experts
    const k: RoutingRule = { numExperts: 16, topK: 4, scoringFunc: 'sparsemixer', sparsemixerEpsilon: 0.01 }
    // @ts-expect-error: the threshold is part of the rule
    const epsilon: RoutingRule = { numExperts: 16, topK: 2, scoringFunc: 'sparsemixer' }
    void [k, epsilon]
  })
  test('hash routing by groups', () => {
    const rule: RoutingRule = {
      ...size,
      scoringFunc: 'sigmoid',
      hashRouted: true,
      normTopkProb: true,
      numExpertGroups: 4,
      topkGroup: 2,
      // @ts-expect-error: ids come from a table
      groupScore: 'max',
    }
    void rule
  })
  test('capacity with the wrong k', () => {
    const rule: RoutingRule = {
      numExperts: 8,
      topK: 4,
      scoringFunc: 'softmax',
      normTopkProb: false,
      // @ts-expect-error: Switch routes to one expert
      capacity: { kind: 'per_sequence', expertCapacity: 64 },
    }
    void rule
  })
  test('a factor in two places', () => {
    const rule: RoutingRule = {
      ...size,
      scoringFunc: 'sigmoid',
      normTopkProb: true,
      routedScalingFactor: 2.5,
      // @ts-expect-error: one factor, one name
      scalingFactor: 2.5,
    }
    void rule
  })
})

test('a config is a rule and a shape, and nothing of either may be missing', () => {
  const config: MoeConfig = { ...size, scoringFunc: 'topk_softmax', hiddenSize: 64, intermediateSize: 128 }
  expectTypeOf(config.hiddenSize).toBeNumber()
  // @ts-expect-error: intermediateSize
  const noShape: MoeConfig = { ...size, scoringFunc: 'topk_softmax', hiddenSize: 64 }
  // @ts-expect-error: an activation that does not exist
  const activation: MoeConfig = { ...config, activation: 'swish' }
  void [noShape, activation]
})
