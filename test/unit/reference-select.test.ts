import { describe, expect, it } from 'vitest'
import type { RoutingConfig } from '../../lib/block/routing.js'
import { reference } from '../../lib/reference/index.js'
import { expectClose } from '../helpers/relative-error.js'

/** Logits whose softmax is 0.1, 0.2, 0.3, 0.4. */
const tenths = [1, 2, 3, 4].map(Math.log)
const logit = (p: number) => Math.log(p / (1 - p))
/** Logits whose softplus is v. */
const inverseSoftplus = (v: number) => Math.log(Math.expm1(v))

function expectSelection(
  logits: number[],
  routing: RoutingConfig,
  ids: number[],
  weights: number[],
  options?: Parameters<typeof reference.selectExperts>[2],
): void {
  const selected = reference.selectExperts(logits, routing, options)
  expect([...selected.topkIds]).toEqual(ids)
  expectClose(selected.topkWeights, weights, 1e-14)
  expect([...selected.nonFiniteRows]).toEqual([])
}

const softmax = { scoringFunc: 'softmax', numExperts: 4, topK: 2 } as const

describe('scoring functions', () => {
  it('softmax over all experts', () => {
    expectSelection(tenths, { ...softmax, normTopkProb: false }, [3, 2], [0.4, 0.3])
  })

  it('sigmoid', () => {
    const logits = [0.9, 0.5, 0.2, 0.8].map(logit)
    const routing = { scoringFunc: 'sigmoid', numExperts: 4, topK: 2, normTopkProb: false } as const
    expectSelection(logits, routing, [0, 3], [0.9, 0.8])
  })

  it('square root of softplus', () => {
    const logits = [4, 1, 9, 0.25].map(inverseSoftplus)
    const routing = { scoringFunc: 'sqrtsoftplus', numExperts: 4, topK: 2, normTopkProb: true } as const
    expectSelection(logits, routing, [2, 0], [3 / 5, 2 / 5])
  })

  it('softmax over the selected logits', () => {
    expectSelection(tenths, { scoringFunc: 'topk_softmax', numExperts: 4, topK: 2 }, [3, 2], [4 / 7, 3 / 7])
  })

  it('sigmoid of the selected logits', () => {
    const logits = [0.9, 0.5, 0.2, 0.8].map(logit)
    expectSelection(logits, { scoringFunc: 'topk_sigmoid', numExperts: 4, topK: 1 }, [0], [0.9])
  })

  it('after a soft-cap of the logits', () => {
    const logits = [10, 2 * Math.atanh(0.5), -1, -10]
    const routing = { scoringFunc: 'topk_sigmoid', numExperts: 4, topK: 2, logitSoftcap: 2 } as const
    const capped = [2 * Math.tanh(5), 1]
    expectSelection(
      logits,
      routing,
      [0, 1],
      capped.map(z => 1 / (1 + Math.exp(-z))),
    )
  })
})

describe('renormalisation', () => {
  it.each<[string, Partial<RoutingConfig>, number[]]>([
    ['by the sum', { normTopkProb: true }, [4 / 7, 3 / 7]],
    ['by the sum and an epsilon', { normTopkProb: true, normEpsilon: 0.3 }, [0.4, 0.3]],
    ['by the sum above its floor', { normTopkProb: true, normFloor: 0.5 }, [4 / 7, 3 / 7]],
    ['by the floor above the sum', { normTopkProb: true, normFloor: 2 }, [0.2, 0.15]],
    ['by a 2-norm', { normTopkProb: true, normOrder: 2 }, [0.8, 0.6]],
    ['then scaled once', { normTopkProb: true, routedScalingFactor: 2.5 }, [10 / 7, 7.5 / 7]],
    ['scaled without it', { normTopkProb: false, routedScalingFactor: 16 }, [6.4, 4.8]],
    [
      'then scaled per expert',
      { normTopkProb: true, perExpertScale: Float32Array.of(9, 9, 2, 0.5) },
      [2 / 7, 6 / 7],
    ],
  ])('%s', (_, change, weights) => {
    expectSelection(tenths, { ...softmax, ...change } as RoutingConfig, [3, 2], weights)
  })

  it('of a single expert gives 1', () => {
    expectSelection(tenths, { ...softmax, topK: 1, normTopkProb: true }, [3], [1])
  })
})

describe('selection bias', () => {
  it('moves the selection and its order, never the weights', () => {
    const logits = [0.9, 0.5, 0.2, 0.8].map(logit)
    const selectionBias = Float32Array.of(-0.5, 0, 0.75, 0.0625)
    const routing = {
      scoringFunc: 'sigmoid',
      numExperts: 4,
      topK: 2,
      normTopkProb: true,
      selectionBias,
    } as const
    expectSelection(logits, { ...routing, routedScalingFactor: 2.5 }, [2, 3], [0.5, 2])
  })

  it('may send a token to identity experts', () => {
    const selectionBias = Float32Array.of(0, 0, 0, 0.5, 0.25)
    const logits = [5, 2, 1, 1, 1].map(Math.log)
    const routing = {
      ...softmax,
      numExperts: 3,
      numIdentityExperts: 2,
      normTopkProb: false,
      selectionBias,
    } as const
    expectSelection(logits, { ...routing, topK: 3, routedScalingFactor: 6 }, [3, 0, 4], [0.6, 3, 0.6])
  })
})

describe('groups', () => {
  const logits = [0.9, 0.1, 0.6, 0.55, 0.5, 0.45].map(logit)
  const grouped = {
    scoringFunc: 'sigmoid',
    numExperts: 6,
    topK: 2,
    normTopkProb: false,
    numExpertGroups: 3,
  } as const

  it('by their greatest score', () => {
    expectSelection(logits, { ...grouped, topkGroup: 1, groupScore: 'max' }, [0, 1], [0.9, 0.1])
  })

  it('by the sum of their two greatest', () => {
    expectSelection(logits, { ...grouped, topkGroup: 1, groupScore: 'top2_sum' }, [2, 3], [0.6, 0.55])
    expectSelection(
      logits,
      { ...grouped, topK: 3, topkGroup: 2, groupScore: 'top2_sum' },
      [0, 2, 3],
      [0.9, 0.6, 0.55],
    )
  })

  it('mask with -inf, so that negative selection scores stand', () => {
    const selectionBias = new Float32Array(6).fill(-1)
    const routing = { ...grouped, topkGroup: 1, groupScore: 'top2_sum', selectionBias } as const
    expectSelection(logits, routing, [2, 3], [0.6, 0.55])
  })

  it('mask with 0 where a model does, so that they are chosen before negative scores', () => {
    const rule = { ...grouped, topkGroup: 1, groupScore: 'top2_sum_zeroed' } as const
    // Scores of the kept group: 0.6 and 0.55, less 0.58. All experts of the others have 0, and the lower goes first.
    const selectionBias = new Float32Array(6).fill(-0.58)
    expectSelection(logits, { ...rule, selectionBias }, [2, 0], [0.6, 0.9])
    expectSelection(logits, rule, [2, 3], [0.6, 0.55])
  })

  it('are scored with the bias', () => {
    const selectionBias = Float32Array.of(0, 0, 0, 0, 0, 1)
    const routing = { ...grouped, topkGroup: 1, groupScore: 'max', selectionBias } as const
    expectSelection(logits, routing, [5, 4], [0.45, 0.5])
  })
})

describe('ties', () => {
  it('go to the lower expert', () => {
    expectSelection(
      [1, 2, 2, 1],
      { ...softmax, topK: 3, normTopkProb: true },
      [1, 2, 0],
      [Math.E / (2 * Math.E + 1), Math.E / (2 * Math.E + 1), 1 / (2 * Math.E + 1)],
    )
    expectSelection([0, 0, 0, 0], { scoringFunc: 'topk_softmax', numExperts: 4, topK: 2 }, [0, 1], [0.5, 0.5])
  })

  it('go to the lower group', () => {
    const routing = { scoringFunc: 'sigmoid', numExperts: 4, topK: 2, normTopkProb: true } as const
    const grouped = { ...routing, numExpertGroups: 2, topkGroup: 1, groupScore: 'top2_sum' } as const
    expectSelection(
      [1, 2, 2, 1],
      grouped,
      [1, 0],
      [
        1 / (1 + Math.exp(-2)) / (1 / (1 + Math.exp(-2)) + 1 / (1 + Math.exp(-1))),
        1 / (1 + Math.exp(-1)) / (1 / (1 + Math.exp(-2)) + 1 / (1 + Math.exp(-1))),
      ],
    )
  })
})

describe('hash routing', () => {
  const hashTable = Int32Array.of(2, 0, 1, 3)
  const routing = { ...softmax, normTopkProb: true, hashRouted: true, hashTable } as const

  it('takes ids from the table, in its order, and weights from the scores', () => {
    const options = { tokenIds: [1, 0] }
    expectSelection([...tenths, ...tenths], routing, [1, 3, 2, 0], [1 / 3, 2 / 3, 3 / 4, 1 / 4], options)
  })

  it('refuses tokens outside the vocabulary and calls without tokens', () => {
    expect(() => reference.selectExperts(tenths, routing, { tokenIds: [2] })).toThrow(RangeError)
    expect(() => reference.selectExperts(tenths, routing)).toThrow(
      expect.objectContaining({ code: 'ERR_MOE_MISSING_INPUT' }),
    )
  })
})

describe('sparsemixer', () => {
  const routing = { scoringFunc: 'sparsemixer', numExperts: 3, topK: 2, sparsemixerEpsilon: 0.01 } as const

  it.each<[string, number[], number[], number[]]>([
    ['keeps logits within 2 epsilon of the best', [1, 0.99, 0.5], [0, 1], [1 / (1 + Math.exp(-0.01)), 1]],
    ['measures by |z| in an all-negative row', [-1, -1.015, -2], [0, 1], [1 / (1 + Math.exp(-0.015)), 1]],
    // 0.0203 / 1.0203 is within 0.02; 0.0203 / 1 would not be.
    ['divides by the larger magnitude', [-1, -1.0203, -3], [0, 1], [1 / (1 + Math.exp(-0.0203)), 1]],
    ['keeps 0 / 0', [0, 0, -1], [0, 1], [0.5, 1]],
    ['leaves the winner out of the second round', [5, -1, -1.001], [0, 1], [1, 1 / (1 + Math.exp(-0.001))]],
  ])('%s', (_, logits, ids, weights) => {
    expectSelection(logits, routing, ids, weights)
  })
})

describe('rows that are not finite', () => {
  it.each([Number.NaN, Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY])('%f', bad => {
    const logits = [...tenths, 1, bad, 2, 0, ...tenths]
    const rules: RoutingConfig[] = [
      { ...softmax, normTopkProb: true },
      { scoringFunc: 'topk_softmax', numExperts: 4, topK: 2 },
      { scoringFunc: 'sigmoid', numExperts: 4, topK: 2, normTopkProb: true, logitSoftcap: 30 },
    ]
    for (const routing of rules) {
      const alone = reference.selectExperts(tenths, routing)
      for (const options of [{}, { topK: 1 }, { topK: Uint8Array.of(2, 0, 2) }, { topP: 0.1 }]) {
        const result = reference.selectExperts(logits, routing, options)
        expect([...result.topkIds.slice(2, 4)]).toEqual([0, 1])
        expect([...result.topkWeights.slice(2, 4)]).toEqual([Number.NaN, Number.NaN])
        expect([...result.nonFiniteRows]).toEqual([1])
      }
      const result = reference.selectExperts(logits, routing)
      expect([...result.topkIds.slice(4)]).toEqual([...alone.topkIds])
      expect(result.topkWeights.slice(0, 2)).toEqual(alone.topkWeights)
    }
  })
})

describe('arguments', () => {
  const routing = { ...softmax, normTopkProb: true } as const

  it('of the wrong length, kind or value are refused', () => {
    const code = (value: string) => expect.objectContaining({ code: value })
    expect(() => reference.selectExperts([1, 2, 3], routing)).toThrow(code('ERR_MOE_INVALID_ARG_SHAPE'))
    expect(() => reference.selectExperts(tenths, routing, { topK: 3 })).toThrow(
      code('ERR_MOE_INVALID_ARG_VALUE'),
    )
    expect(() => reference.selectExperts(tenths, routing, { topK: [1] as never })).toThrow(TypeError)
    expect(() => reference.selectExperts(tenths, routing, { topK: Uint8Array.of(1, 1) })).toThrow(RangeError)
    expect(() => reference.selectExperts(tenths, routing, { topP: 0 })).toThrow(RangeError)
    expect(() => reference.selectExperts(tenths, routing, { topP: Number.NaN })).toThrow(RangeError)
    expect(() => reference.selectExperts(tenths, routing, { topq: 1 } as never)).toThrow(/topK|topP/)
  })

  it('may be no tokens at all', () => {
    expect(reference.selectExperts([], routing).topkIds).toHaveLength(0)
  })
})

describe('selectionMargins', () => {
  it('measure the last selected against the best rejected, and neighbours among the selected', () => {
    const { margin, orderGap } = reference.selectionMargins(tenths, { ...softmax, normTopkProb: true })
    expectClose(margin, [0.1], 1e-14)
    expectClose(orderGap, [0.1], 1e-14)
  })

  it('include the decision between groups', () => {
    const logits = [0.9, 0.1, 0.6, 0.42, 0.5, 0.45].map(logit)
    const routing = { scoringFunc: 'sigmoid', numExperts: 6, topK: 1, normTopkProb: false } as const
    const grouped = { ...routing, numExpertGroups: 3, topkGroup: 1, groupScore: 'top2_sum' } as const
    expectClose(reference.selectionMargins(logits, grouped).margin, [0.02], 1e-12)
  })

  it('include the share that topP must reach', () => {
    const routing = { ...softmax, topK: 3, normTopkProb: true } as const
    expectClose(
      reference.selectionMargins(tenths, routing, { topP: 0.8 }).margin,
      [7 / 9 - 0.8].map(Math.abs),
      1e-12,
    )
  })

  it('are infinite where nothing is rejected, and 0 where a logit is not finite', () => {
    const all = { ...softmax, topK: 4, normTopkProb: true } as const
    expect([...reference.selectionMargins([...tenths, 1, Number.NaN, 1, 1], all).margin]).toEqual([
      Number.POSITIVE_INFINITY,
      0,
    ])
  })

  it('include sparsemixer thresholds', () => {
    const routing = { scoringFunc: 'sparsemixer', numExperts: 3, topK: 2, sparsemixerEpsilon: 0.01 } as const
    expectClose(reference.selectionMargins([1, 0.979, 0.5], routing).margin, [0.001], 1e-10)
  })
})
