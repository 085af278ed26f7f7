import { describe, expect, it } from 'vitest'
import type { RoutingConfig } from '../../lib/block/routing.js'
import { reference } from '../../lib/reference/index.js'
import { expectClose } from '../helpers/relative-error.js'

/** Logits whose softmax is 0.4, 0.3, 0.2, 0.1. */
const tenths = [4, 3, 2, 1].map(Math.log)
const logit = (p: number) => Math.log(p / (1 - p))
const softmax: RoutingConfig = { scoringFunc: 'softmax', numExperts: 4, topK: 3, normTopkProb: true }

type Options = Parameters<typeof reference.selectExperts>[2]

function select(logits: number[], routing: RoutingConfig, options: Options) {
  const { topkIds, topkWeights } = reference.selectExperts(logits, routing, options)
  return { ids: [...topkIds], weights: topkWeights }
}

describe('topK of a call', () => {
  it('keeps the first of the trained ranking and normalises over them', () => {
    const { ids, weights } = select(tenths, { ...softmax, routedScalingFactor: 7 }, { topK: 2 })
    expect(ids).toEqual([0, 1, -1])
    expectClose(weights, [4, 3, 0], 1e-14)
  })

  it('may differ per row, down to none', () => {
    const { ids, weights } = select([...tenths, ...tenths, ...tenths], softmax, {
      topK: Uint8Array.of(0, 1, 3),
    })
    expect(ids).toEqual([-1, -1, -1, 0, -1, -1, 0, 1, 2])
    expectClose(weights, [0, 0, 0, 1, 0, 0, 4 / 9, 3 / 9, 2 / 9], 1e-14)
  })

  it('leaves weights alone where the family does not normalise', () => {
    const { weights } = select(
      tenths,
      { scoringFunc: 'softmax', numExperts: 4, topK: 3, normTopkProb: false },
      { topK: 2 },
    )
    expectClose(weights, [0.4, 0.3, 0], 1e-14)
  })

  it('takes the softmax over the kept logits with topk_softmax', () => {
    const { weights } = select(tenths, { scoringFunc: 'topk_softmax', numExperts: 4, topK: 3 }, { topK: 2 })
    expectClose(weights, [4 / 7, 3 / 7, 0], 1e-14)
  })

  it('chooses groups as trained', () => {
    const logits = [0.9, 0.1, 0.6, 0.55].map(logit)
    const routing: RoutingConfig = {
      scoringFunc: 'sigmoid',
      numExperts: 4,
      topK: 2,
      normTopkProb: true,
      numExpertGroups: 2,
      topkGroup: 1,
      groupScore: 'top2_sum',
    }
    const { ids, weights } = select(logits, routing, { topK: 1 })
    expect(ids).toEqual([2, -1])
    expectClose(weights, [1, 0], 1e-14)
  })

  it('takes the first of the table in hash routing', () => {
    const routing: RoutingConfig = {
      scoringFunc: 'softmax',
      numExperts: 4,
      topK: 2,
      normTopkProb: false,
      hashRouted: true,
      hashTable: Int32Array.of(3, 0),
    }
    const { ids, weights } = select(tenths, routing, { topK: 1, tokenIds: [0] })
    expect(ids).toEqual([3, -1])
    expectClose(weights, [0.1, 0], 1e-14)
  })
})

describe('topP of a call', () => {
  it.each<[number, number[], number[]]>([
    [0.01, [0, -1, -1], [1, 0, 0]],
    [0.44, [0, -1, -1], [1, 0, 0]],
    [0.45, [0, 1, -1], [4 / 7, 3 / 7, 0]],
    [0.77, [0, 1, -1], [4 / 7, 3 / 7, 0]],
    [0.78, [0, 1, 2], [4 / 9, 3 / 9, 2 / 9]],
    [1, [0, 1, 2], [4 / 9, 3 / 9, 2 / 9]],
  ])('%f of shares 4/9, 3/9, 2/9', (topP, ids, weights) => {
    const selected = select(tenths, softmax, { topP })
    expect(selected.ids).toEqual(ids)
    expectClose(selected.weights, weights, 1e-14)
    const logits = select(tenths, { scoringFunc: 'topk_softmax', numExperts: 4, topK: 3 }, { topP })
    expect(logits.ids).toEqual(ids)
    expectClose(logits.weights, weights, 1e-14)
  })

  it('counts shares among those that topK kept', () => {
    expect(select(tenths, softmax, { topK: 2, topP: 0.57 }).ids).toEqual([0, -1, -1])
    expect(select(tenths, softmax, { topK: 2, topP: 0.58 }).ids).toEqual([0, 1, -1])
    expect(select(tenths, softmax, { topK: 0, topP: 0.5 }).ids).toEqual([-1, -1, -1])
  })

  it('goes by weight, not by selection score, and leaves slots in place', () => {
    const routing: RoutingConfig = {
      scoringFunc: 'sigmoid',
      numExperts: 2,
      topK: 2,
      normTopkProb: true,
      selectionBias: Float32Array.of(1, 0),
    }
    const { ids, weights } = select([0.2, 0.9].map(logit), routing, { topP: 0.5 })
    expect(ids).toEqual([-1, 1])
    expectClose(weights, [0, 1], 1e-14)
  })

  it('gives ties to the earlier slot', () => {
    expect(select([0, 0, 0, 0], softmax, { topP: 0.5 }).ids).toEqual([0, 1, -1])
  })

  it('keeps one expert where all weights vanish', () => {
    const routing: RoutingConfig = { scoringFunc: 'sigmoid', numExperts: 2, topK: 2, normTopkProb: false }
    expect(select([-800, -800], routing, { topP: 0.9 }).ids).toEqual([0, -1])
  })

  it('works on sparsemixer weights and topk_sigmoid scores', () => {
    const mixer: RoutingConfig = {
      scoringFunc: 'sparsemixer',
      numExperts: 3,
      topK: 2,
      sparsemixerEpsilon: 0.01,
    }
    const mixed = select([0, 0, -1], mixer, { topP: 0.6 })
    expect(mixed.ids).toEqual([-1, 1])
    expectClose(mixed.weights, [0, 1], 1e-14)
    const llama: RoutingConfig = { scoringFunc: 'topk_sigmoid', numExperts: 2, topK: 2 }
    const kept = select([0.9, 0.3].map(logit), llama, { topP: 0.75 })
    expect(kept.ids).toEqual([0, -1])
    expectClose(kept.weights, [0.9, 0], 1e-14)
  })
})
