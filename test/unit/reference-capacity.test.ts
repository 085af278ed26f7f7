import { describe, expect, it } from 'vitest'
import type { RoutingConfig } from '../../lib/block/routing.js'
import { reference } from '../../lib/reference/index.js'
import { expectClose } from '../helpers/relative-error.js'

/** Logits of one token whose softmax are the given probabilities. */
const row = (...p: number[]) => p.map(Math.log)

describe('capacity per sequence', () => {
  const routing: RoutingConfig = {
    scoringFunc: 'softmax',
    numExperts: 2,
    topK: 1,
    normTopkProb: false,
    capacity: { kind: 'per_sequence', expertCapacity: 2 },
  }
  const logits = [row(0.9, 0.1), row(0.8, 0.2), row(0.7, 0.3), row(0.4, 0.6), row(0.6, 0.4)].flat()

  it('keeps the first tokens of each expert, in position order', () => {
    const { topkIds, topkWeights } = reference.selectExperts(logits, routing)
    expect([...topkIds]).toEqual([0, 0, -1, 1, -1])
    expectClose(topkWeights, [0.9, 0.8, 0, 0.6, 0], 1e-14)
  })

  it('counts anew in each sequence, empty ones included', () => {
    const { topkIds } = reference.selectExperts(logits, routing, { sequenceLengths: [2, 0, 3] })
    expect([...topkIds]).toEqual([0, 0, 0, 1, 0])
  })

  it('gives no room to rows that are not finite or keep no expert', () => {
    const broken = [...logits]
    broken[0] = Number.NaN
    const { topkIds, nonFiniteRows } = reference.selectExperts(broken, routing)
    expect([...topkIds]).toEqual([0, 0, 0, 1, -1])
    expect([...nonFiniteRows]).toEqual([0])
    const reduced = reference.selectExperts(logits, routing, { topK: Uint8Array.of(0, 1, 1, 1, 1) })
    expect([...reduced.topkIds]).toEqual([-1, 0, 0, 1, -1])
  })

  it('refuses lengths that do not sum to the tokens', () => {
    expect(() => reference.selectExperts(logits, routing, { sequenceLengths: [2, 2] })).toThrow(RangeError)
    expect(() => reference.selectExperts(logits, routing, { sequenceLengths: [6, -1] })).toThrow(RangeError)
  })
})

describe('capacity over the batch', () => {
  const batch = (capacity: object, scale = 1): RoutingConfig => ({
    scoringFunc: 'softmax',
    numExperts: 3,
    topK: 2,
    normTopkProb: true,
    normFloor: 1e-7,
    routedScalingFactor: scale,
    capacity: { kind: 'batch', ...capacity },
  })
  // First and second choices: (0, 1), (1, 0), (0, 1).
  const logits = [row(0.5, 0.3, 0.2), row(0.25, 0.7, 0.05), row(0.6, 0.3, 0.1)].flat()

  it('ranks second choices behind all first ones; 2 * ceil(T / E) by default', () => {
    const { topkIds, topkWeights } = reference.selectExperts(logits, batch({}))
    // Expert 0 queues tokens 0, 2, then 1; expert 1 queues 1, then 0, 2; each holds two.
    expect([...topkIds]).toEqual([0, 1, 1, -1, 0, -1])
    expectClose(topkWeights, [5 / 8, 3 / 8, 1, 0, 1, 0], 1e-14)
  })

  it('normalises before dropping when told to, and scales at the end', () => {
    const { topkWeights } = reference.selectExperts(logits, batch({ normalizeBeforeDropping: true }, 0.8))
    expectClose(topkWeights, [0.5, 0.3, (0.7 / 0.95) * 0.8, 0, (6 / 9) * 0.8, 0], 1e-14)
  })

  it('takes the queue in order of the greatest probability when told to', () => {
    const plain = reference.selectExperts(logits, batch({ expertCapacity: 1 }))
    expect([...plain.topkIds]).toEqual([0, -1, 1, -1, -1, -1])
    const prioritized = reference.selectExperts(logits, batch({ expertCapacity: 1, batchPrioritized: true }))
    expect([...prioritized.topkIds]).toEqual([-1, -1, 1, -1, 0, -1])
    expectClose(prioritized.topkWeights, [0, 0, 1, 0, 1, 0], 1e-14)
  })

  it('lets the earlier of two equal probabilities go first', () => {
    const twins = [row(0.6, 0.3, 0.1), row(0.6, 0.1, 0.3)].flat()
    const { topkIds } = reference.selectExperts(twins, batch({ expertCapacity: 1, batchPrioritized: true }))
    expect([...topkIds]).toEqual([0, 1, -1, 2])
  })

  it('takes a fraction of the tokens, rounded up, before a figure', () => {
    const { topkIds } = reference.selectExperts(logits, batch({ tokenFraction: 0.5, expertCapacity: 1 }))
    expect([...topkIds]).toEqual([0, 1, 1, -1, 0, -1])
    const one = reference.selectExperts(logits, batch({ tokenFraction: 0.1, expertCapacity: 3 }))
    expect([...one.topkIds]).toEqual([0, -1, 1, -1, -1, -1])
  })

  it('frees the room of choices that the call does not make', () => {
    const { topkIds, topkWeights } = reference.selectExperts(logits, batch({}), {
      topK: Uint8Array.of(1, 2, 0),
    })
    expect([...topkIds]).toEqual([0, -1, 1, 0, -1, -1])
    expectClose(topkWeights, [1, 0, 0.7 / 0.95, 0.25 / 0.95, 0, 0], 1e-14)
  })

  it('gives no room to rows that are not finite', () => {
    const broken = [...logits]
    broken[1] = Number.POSITIVE_INFINITY
    const { topkIds, topkWeights } = reference.selectExperts(broken, batch({ expertCapacity: 1 }))
    expect([...topkIds]).toEqual([0, 1, 1, -1, 0, -1])
    expect(topkWeights.slice(0, 2)).toEqual(Float64Array.of(Number.NaN, Number.NaN))
  })
})
