import { describe, expect, it } from 'vitest'
import type { MoeConfig } from '../../lib/block/config.js'
import {
  checkRoutingVectors,
  resolveConfig,
  resolveRouting,
  resolveRoutingConfig,
} from '../../lib/block/resolve.js'
import type { RoutingRule } from '../../lib/block/routing.js'

const shape = { hiddenSize: 4, intermediateSize: 8 }

const rules: Record<string, RoutingRule> = {
  softmax: { scoringFunc: 'softmax', numExperts: 8, topK: 2, normTopkProb: false },
  grouped: {
    scoringFunc: 'sigmoid',
    numExperts: 8,
    topK: 3,
    normTopkProb: true,
    normEpsilon: 1e-20,
    numExpertGroups: 4,
    topkGroup: 2,
    groupScore: 'top2_sum',
    routedScalingFactor: 2.5,
  },
  floor: { scoringFunc: 'softmax', numExperts: 8, topK: 2, normTopkProb: true, normFloor: 1e-12 },
  pNorm: { scoringFunc: 'softmax', numExperts: 8, topK: 2, normTopkProb: true, normOrder: 1 },
  hash: { scoringFunc: 'sqrtsoftplus', numExperts: 8, topK: 2, normTopkProb: true, hashRouted: true },
  identity: { scoringFunc: 'softmax', numExperts: 4, numIdentityExperts: 2, topK: 5, normTopkProb: false },
  topkSoftmax: { scoringFunc: 'topk_softmax', numExperts: 8, topK: 2 },
  topkSigmoid: { scoringFunc: 'topk_sigmoid', numExperts: 8, topK: 1 },
  sparsemixer: { scoringFunc: 'sparsemixer', numExperts: 8, topK: 2, sparsemixerEpsilon: 0.01 },
  switch: {
    scoringFunc: 'softmax',
    numExperts: 8,
    topK: 1,
    normTopkProb: false,
    capacity: { kind: 'per_sequence', expertCapacity: 64 },
  },
  nllb: {
    scoringFunc: 'softmax',
    numExperts: 8,
    topK: 2,
    normTopkProb: true,
    normFloor: 1e-7,
    capacity: { kind: 'batch', tokenFraction: 0.5, batchPrioritized: true },
    routedScalingFactor: 0.8,
  },
}

const value = (message: RegExp) =>
  expect.objectContaining({
    name: 'RangeError',
    code: 'ERR_MOE_INVALID_ARG_VALUE',
    message: expect.stringMatching(message),
  })
const type = (message: RegExp) =>
  expect.objectContaining({
    name: 'TypeError',
    code: 'ERR_MOE_INVALID_ARG_TYPE',
    message: expect.stringMatching(message),
  })
const shapeError = (message: RegExp) =>
  expect.objectContaining({
    name: 'RangeError',
    code: 'ERR_MOE_INVALID_ARG_SHAPE',
    message: expect.stringMatching(message),
  })

describe('defaults', () => {
  it('are all written out', () => {
    expect(resolveConfig({ ...rules.softmax!, ...shape } as MoeConfig)).toEqual({
      family: 'custom',
      scoringFunc: 'softmax',
      hashRouted: false,
      numExperts: 8,
      numIdentityExperts: 0,
      topK: 2,
      numExpertGroups: 1,
      topkGroup: 1,
      groupScore: 'max',
      normTopkProb: false,
      normalization: 'none',
      normValue: 0,
      routedScalingFactor: 1,
      logitSoftcap: 0,
      sparsemixerEpsilon: 0,
      capacity: null,
      hiddenSize: 4,
      intermediateSize: 8,
      activation: 'silu',
      gated: true,
      swigluLimit: 0,
      swigluGateLimit: 0,
      swigluAlpha: 1,
      swigluUpOffset: 0,
      numSharedExperts: 0,
      sharedIntermediateSize: 0,
      sharedGate: 'plain',
      sharedSwigluLimit: 0,
      sharedSwigluGateLimit: 0,
      weightOn: 'output',
      latentSize: 0,
      latentNormEpsilon: 0,
      routerInput: 'hidden',
      routerNormEpsilon: 0,
    })
  })

  it('take the shared width from the number of shared experts', () => {
    const config = { ...rules.softmax!, ...shape, numSharedExperts: 2 } as MoeConfig
    expect(resolveConfig(config).sharedIntermediateSize).toBe(16)
    expect(resolveConfig({ ...config, sharedIntermediateSize: 5 }).sharedIntermediateSize).toBe(5)
  })

  it.each([
    ['grouped', 'sum', 1e-20],
    ['floor', 'floor', 1e-12],
    ['pNorm', 'p', 1],
    ['hash', 'sum', 0],
    ['topkSoftmax', 'none', 0],
  ])('%s normalises by %s', (name, normalization, normValue) => {
    expect(resolveRouting(rules[name]!)).toMatchObject({ normalization, normValue })
  })
})

describe.each(Object.entries(rules))('%s', (_, rule) => {
  it('resolves to itself once resolved, in one piece or spread', () => {
    const routing = resolveRouting(rule)
    expect(resolveRouting(routing)).toEqual(routing)
    const config = resolveConfig({ ...rule, ...shape } as MoeConfig)
    expect(resolveConfig(config)).toEqual(config)
    expect(resolveConfig({ ...config })).toEqual(config)
  })

  it('is frozen all the way', () => {
    const config = resolveConfig({ ...rule, ...shape } as MoeConfig)
    expect(Object.isFrozen(config)).toBe(true)
    expect(config.capacity === null || Object.isFrozen(config.capacity)).toBe(true)
  })
})

describe('impossible rules', () => {
  it.each<[string, string, Record<string, unknown>, RegExp]>([
    [
      'groups that do not divide',
      'grouped',
      { numExperts: 10 },
      /divisor of the 10 router outputs.*numExpertGroups/,
    ],
    [
      'fewer experts in the kept groups than topK',
      'grouped',
      { topkGroup: 1 },
      /enough for topK 3.*topkGroup/,
    ],
    ['more kept groups than groups', 'grouped', { topkGroup: 5 }, /topkGroup/],
    ['two best of groups of one', 'grouped', { numExpertGroups: 8, topkGroup: 4 }, /'max'.*groupScore/],
    ['kept groups without groups', 'softmax', { topkGroup: 2 }, /topkGroup/],
    [
      'groups with hash',
      'hash',
      { numExpertGroups: 2, topkGroup: 1, groupScore: 'max' },
      /1 with hashRouted/,
    ],
    [
      'groups with topk_softmax',
      'topkSoftmax',
      { numExpertGroups: 2, topkGroup: 1, groupScore: 'max' },
      /1 with scoringFunc 'topk_softmax'/,
    ],
    [
      'groups with capacity',
      'switch',
      { numExpertGroups: 2, topkGroup: 1, groupScore: 'max' },
      /1 with capacity/,
    ],
    ['hash with topk_softmax', 'topkSoftmax', { hashRouted: true }, /hashRouted/],
    ['hash with capacity', 'switch', { hashRouted: true }, /nothing with hashRouted/],
    [
      'an epsilon without normalisation',
      'softmax',
      { normEpsilon: 1e-20 },
      /normTopkProb false for .*normEpsilon/,
    ],
    ['two forms of normalisation', 'floor', { normEpsilon: 1e-20 }, /beside/],
    ['a floor of 0', 'floor', { normFloor: 0 }, /normFloor/],
    ['a negative epsilon', 'grouped', { normEpsilon: -1 }, /normEpsilon/],
    ['normalised topk_sigmoid', 'topkSigmoid', { normTopkProb: true }, /normTopkProb/],
    ['topk_softmax not normalised', 'topkSoftmax', { normTopkProb: false }, /normTopkProb/],
    ['an epsilon with topk_softmax', 'topkSoftmax', { normEpsilon: 0 }, /normalised already.*normEpsilon/],
    ['top-1 sparsemixer', 'sparsemixer', { topK: 1 }, /2 with scoringFunc 'sparsemixer'/],
    ['a sparsemixer epsilon elsewhere', 'softmax', { sparsemixerEpsilon: 0.1 }, /sparsemixerEpsilon/],
    ['top-2 capacity per sequence', 'switch', { topK: 2 }, /1 with capacity.kind/],
    ['normalised capacity per sequence', 'switch', { normTopkProb: true }, /false with capacity.kind/],
    ['top-1 batch capacity', 'nllb', { topK: 1 }, /2 with capacity.kind/],
    ['batch capacity with identity experts', 'nllb', { numIdentityExperts: 1 }, /numIdentityExperts/],
    ['capacity with sigmoid', 'switch', { scoringFunc: 'sigmoid' }, /capacity/],
    ['an unknown kind of capacity', 'switch', { capacity: { kind: 'global' } }, /capacity.kind/],
    ['no room', 'switch', { capacity: { kind: 'per_sequence', expertCapacity: 0 } }, /expertCapacity/],
    ['topK above the router outputs', 'identity', { topK: 7 }, /1 to 6/],
    ['topK 0', 'softmax', { topK: 0 }, /topK/],
    ['half an expert', 'softmax', { topK: 1.5 }, /topK/],
    ['too many experts', 'softmax', { numExperts: 65537 }, /65536/],
    ['too many identity experts', 'softmax', { numIdentityExperts: 65529 }, /numIdentityExperts/],
    ['NaN topK', 'softmax', { topK: Number.NaN }, /NaN/],
    ['NaN scaling factor', 'softmax', { routedScalingFactor: Number.NaN }, /NaN/],
    ['an infinite soft-cap', 'softmax', { logitSoftcap: Number.POSITIVE_INFINITY }, /logitSoftcap/],
    ['an unknown scoring function', 'softmax', { scoringFunc: 'relu' }, /one of 'softmax'/],
  ])('%s', (_, base, change, message) => {
    const rule = { ...rules[base]!, ...change } as RoutingRule
    expect(() => resolveRouting(rule)).toThrow(value(message))
    expect(() => resolveConfig({ ...rule, ...shape } as MoeConfig)).toThrow(value(message))
  })

  it('a resolved rule with one field changed against another', () => {
    const resolved = resolveRouting(rules.grouped!)
    expect(() => resolveRouting({ ...resolved, normTopkProb: false })).toThrow(value(/normalization/))
    expect(() => resolveRouting({ ...resolved, normEpsilon: 1 } as never)).toThrow(value(/normEpsilon/))
    expect(resolveRouting({ ...resolved, topK: 4 }).topK).toBe(4)
  })
})

describe('impossible shapes', () => {
  it.each<[string, Record<string, unknown>, RegExp]>([
    ['hiddenSize 0', { hiddenSize: 0 }, /hiddenSize/],
    ['a clamp without gate', { gated: false, swigluLimit: 7 }, /gated false.*swigluLimit/],
    ['an up offset without gate', { gated: false, swigluUpOffset: 1 }, /swigluUpOffset/],
    ['alpha with gelu', { activation: 'gelu', swigluAlpha: 1.7 }, /only silu/],
    ['a shared width without shared experts', { sharedIntermediateSize: 4 }, /sharedIntermediateSize/],
    ['a shared gate without shared experts', { sharedGate: 'sigmoid' }, /sharedGate/],
    ['a norm without a latent space', { latentNormEpsilon: 1e-6 }, /without latentSize.*latentNormEpsilon/],
    ['a cap of the gate without a clamp', { swigluGateLimit: 7 }, /swigluLimit.*swigluGateLimit/],
    ['an unknown activation', { activation: 'swish' }, /activation/],
    ['a negative clamp', { swigluLimit: -1 }, /swigluLimit/],
    ['no family', { family: '' }, /family/],
    ['identity experts in a latent space', { numIdentityExperts: 1, latentSize: 2 }, /latentSize/],
  ])('%s', (_, change, message) => {
    expect(() => resolveConfig({ ...rules.softmax!, ...shape, ...change } as MoeConfig)).toThrow(
      value(message),
    )
  })
})

describe('wrong kinds', () => {
  it.each<[Record<string, unknown>, RegExp]>([
    [{ topK: '2' }, /topK, received '2'/],
    [{ numExperts: undefined }, /numExperts, received undefined/],
    [{ normTopkProb: 1 }, /boolean.*normTopkProb/],
    [{ hiddenSize: null }, /hiddenSize/],
    [{ activation: 3 }, /activation/],
    [{ gated: 'yes' }, /gated/],
    [{ family: 7 }, /family/],
    [{ capacity: 'batch' }, /capacity/],
    [{ scoringFunc: undefined }, /scoringFunc/],
  ])('%o', (change, message) => {
    expect(() => resolveConfig({ ...rules.softmax!, ...shape, ...change } as MoeConfig)).toThrow(
      type(message),
    )
  })

  it.each([null, undefined, 3, [], new Float32Array(1)])('%o is no config', config => {
    expect(() => resolveConfig(config as never)).toThrow(type(/config/))
    expect(() => resolveRouting(config as never)).toThrow(type(/routing/))
  })

  it('unknown keys', () => {
    const unknown = { name: 'TypeError', code: 'ERR_MOE_UNKNOWN_OPTION' }
    const rule = { ...rules.softmax!, topk: 2 } as never
    expect(() => resolveRouting(rule)).toThrow(expect.objectContaining(unknown))
    expect(() => resolveRouting({ ...rules.softmax!, ...shape } as never)).toThrow(
      expect.objectContaining(unknown),
    )
    const capacity = { kind: 'batch', capacityFactor: 2 }
    expect(() => resolveRouting({ ...rules.nllb!, capacity } as never)).toThrow(
      expect.objectContaining(unknown),
    )
  })
})

describe('vectors', () => {
  const softmax = resolveRouting(rules.softmax!)
  const hash = resolveRouting(rules.hash!)

  it('that fit', () => {
    expect(() =>
      checkRoutingVectors(softmax, {
        selectionBias: new Float32Array(8),
        perExpertScale: new Float32Array(8),
      }),
    ).not.toThrow()
    expect(() => checkRoutingVectors(hash, { hashTable: Int32Array.of(0, 7, 3, 4) })).not.toThrow()
  })

  it('that do not', () => {
    expect(() => checkRoutingVectors(softmax, { selectionBias: new Float32Array(7) })).toThrow(
      shapeError(/8 elements/),
    )
    expect(() => checkRoutingVectors(softmax, { perExpertScale: [1] as never })).toThrow(
      type(/perExpertScale/),
    )
    const holes = new Float32Array(8).fill(Number.NaN, 3, 4)
    for (const hole of [Number.NaN, Number.POSITIVE_INFINITY]) {
      holes[3] = hole
      expect(() => checkRoutingVectors(softmax, { selectionBias: holes })).toThrow(
        expect.objectContaining({
          code: 'ERR_MOE_INVALID_CHECKPOINT',
          message: expect.stringMatching(/selectionBias is (NaN|Infinity) at expert 3/),
        }),
      )
    }
    expect(() => checkRoutingVectors(softmax, { hashTable: new Int32Array(2) })).toThrow(value(/hashTable/))
    expect(() => checkRoutingVectors(hash, {})).toThrow(
      expect.objectContaining({ name: 'TypeError', code: 'ERR_MOE_MISSING_INPUT' }),
    )
    expect(() => checkRoutingVectors(hash, { hashTable: new Int32Array(3) })).toThrow(shapeError(/vocabSize/))
    expect(() => checkRoutingVectors(hash, { hashTable: Int32Array.of(0, 8) })).toThrow(
      value(/hashTable\[1\]/),
    )
  })

  it('a selection bias that masks experts leaves enough of them', () => {
    const masked = (...experts: number[]) => {
      const bias = new Float32Array(8)
      for (const e of experts) bias[e] = Number.NEGATIVE_INFINITY
      return { selectionBias: bias }
    }
    const tooFew = expect.objectContaining({ code: 'ERR_MOE_INVALID_CHECKPOINT' })
    const two = resolveRouting({ scoringFunc: 'sigmoid', numExperts: 8, topK: 2, normTopkProb: true })
    expect(() => checkRoutingVectors(two, masked(0, 1, 2, 3, 4, 5))).not.toThrow()
    expect(() => checkRoutingVectors(two, masked(0, 1, 2, 3, 4, 5, 6))).toThrow(tooFew)
    // Two groups of four are kept of which one may have a single unmasked expert, whose group then has no score.
    const grouped = (topK: number, topkGroup: number) =>
      resolveRouting({
        ...{ scoringFunc: 'sigmoid', numExperts: 8, topK, normTopkProb: true },
        ...{ numExpertGroups: 2, topkGroup, groupScore: 'top2_sum' },
      } as never)
    expect(() => checkRoutingVectors(grouped(3, 1), masked(0, 1, 2))).not.toThrow()
    expect(() => checkRoutingVectors(grouped(3, 1), masked(0, 1))).toThrow(tooFew)
    expect(() => checkRoutingVectors(grouped(5, 2), masked(0, 1, 2))).not.toThrow()
    expect(() => checkRoutingVectors(grouped(6, 2), masked(0, 1, 2))).toThrow(tooFew)
  })

  it.each(['hash', 'switch', 'sparsemixer', 'topkSoftmax', 'topkSigmoid'])(
    'a selection bias with %s',
    name => {
      const rule = resolveRouting(rules[name]!)
      const vectors = {
        selectionBias: new Float32Array(8),
        hashTable: name === 'hash' ? new Int32Array(2) : undefined,
      }
      expect(() => checkRoutingVectors(rule, vectors)).toThrow(value(/selectionBias/))
    },
  )

  it('are split from the rule', () => {
    const selectionBias = new Float32Array(8)
    const { routing, vectors } = resolveRoutingConfig({ ...rules.softmax!, selectionBias })
    expect(routing).toEqual(softmax)
    expect(vectors.selectionBias).toBe(selectionBias)
    expect(() => resolveRoutingConfig({ ...rules.softmax!, selectionBiass: selectionBias } as never)).toThrow(
      /did you mean 'selectionBias'/,
    )
  })
})

it('groups are scored as DeepSeek does unless the rule says otherwise', () => {
  const groups = { numExperts: 8, topK: 2, normTopkProb: true, numExpertGroups: 4, topkGroup: 2 } as const
  expect(resolveRouting({ ...groups, scoringFunc: 'softmax' }).groupScore).toBe('max')
  expect(resolveRouting({ ...groups, scoringFunc: 'sigmoid' }).groupScore).toBe('top2_sum')
  expect(resolveRouting({ ...groups, scoringFunc: 'softmax', groupScore: 'top2_sum' }).groupScore).toBe(
    'top2_sum',
  )
})
