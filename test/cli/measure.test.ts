import { describe, expect, it } from 'vitest'
import { resolveConfig } from '../../lib/block/resolve.js'
import {
  type CheckedResult,
  checkRows,
  type MeasuredLayer,
  sampleRows,
  timeRuns,
} from '../../lib/cli/measure.js'
import { relativeError, rowsWithOtherIds } from '../../lib/devices/accuracy.js'

const config = resolveConfig({
  scoringFunc: 'softmax',
  normTopkProb: true,
  numExperts: 4,
  topK: 2,
  hiddenSize: 2,
  intermediateSize: 3,
})
const hiddenStates = Float32Array.of(1, 2, 3, 4, 5, 6)

/** Doubles its input; rows with a NaN are flagged. */
function doubled(states: Float32Array): CheckedResult {
  const numTokens = states.length / 2
  const bad = Array.from({ length: numTokens }, (_, row) => row).filter(row => Number.isNaN(states[2 * row]!))
  return {
    output: states.map(value => 2 * value),
    topkIds: Int32Array.from({ length: states.length }, (_, slot) => slot % 2),
    nonFiniteRows: Int32Array.from(bad),
  }
}
const layer: MeasuredLayer = {
  config,
  dtype: 'f32',
  activations: 'exact',
  forward: async states => doubled(states),
}
const check = (result: CheckedResult, states = hiddenStates, rows = [0, 1, 2]) =>
  checkRows(layer, layer, states, result, rows)

describe('checkRows', () => {
  it('passes what is within the bound', async () => {
    const result = doubled(hiddenStates)
    result.output[3]! *= 1 + 1e-6
    expect(await check(result)).toMatchObject({
      ok: true,
      checkedRows: 3,
      numTokens: 3,
      rowsWithOtherIds: [],
    })
    expect(await check(result, hiddenStates, [2])).toMatchObject({
      ok: true,
      checkedRows: 1,
      relativeError: 0,
    })
  })

  it('fails on another value, another expert, or a NaN that is not flagged', async () => {
    const value = doubled(hiddenStates)
    value.output[3]! *= 1 + 1e-3
    expect((await check(value)).ok).toBe(false)
    const expert = doubled(hiddenStates)
    expert.topkIds[5] = 3
    expect(await check(expert, hiddenStates, [0, 2])).toMatchObject({ ok: false, rowsWithOtherIds: [2] })
    const notFinite = doubled(hiddenStates)
    notFinite.output[1] = Number.NaN
    expect(await check(notFinite)).toMatchObject({ ok: false, relativeError: Number.NaN })
  })

  it('leaves out rows that both sides flag, not rows that one flags', async () => {
    const states = hiddenStates.slice()
    states[2] = Number.NaN
    expect(await check(doubled(states), states)).toMatchObject({ ok: true, relativeError: 0 })
    const hidden = { ...doubled(states), nonFiniteRows: new Int32Array(0) }
    expect((await check(hidden, states)).ok).toBe(false)
    const invented = { ...doubled(hiddenStates), nonFiniteRows: Int32Array.of(0) }
    invented.output[0] = Number.NaN
    expect((await check(invented)).ok).toBe(false)
  })
})

describe('measures', () => {
  it('relative error never passes a NaN, a zero reference or another length', () => {
    expect(relativeError([3, 4], [3, 4])).toBe(0)
    expect(relativeError([3, 4 + 5e-3], [3, 4])).toBeCloseTo(1e-3, 9)
    expect(relativeError([1], [0])).toBe(Number.POSITIVE_INFINITY)
    expect(relativeError([Number.NaN], [0])).not.toBeLessThanOrEqual(1)
    expect(relativeError([1, 1], [1])).toBeNaN()
    expect(relativeError([], [])).toBe(0)
  })

  it('compares ids as sets', () => {
    expect(rowsWithOtherIds(Int32Array.of(1, 2, 3, 4), Int32Array.of(2, 1, 3, 5), 2)).toEqual([1])
  })

  it('samples rows evenly within what the reference can do', () => {
    expect(sampleRows(4, 1, 100)).toEqual([0, 1, 2, 3])
    expect(sampleRows(10, 50, 100)).toEqual([0, 5])
    expect(sampleRows(10, 1e12, 100)).toEqual([0])
    expect(sampleRows(0, 0, 100)).toEqual([])
  })

  it('times a few runs and leaves the first out', async () => {
    let calls = 0
    const { result, times, medianMs } = await timeRuns(async () => ++calls)
    expect(times).toHaveLength(7)
    expect(result).toBe(8)
    expect(medianMs).toBeGreaterThanOrEqual(0)
  })
})
