import { describe, expect, it } from 'vitest'
import { copiesOf, makeInputs, randomHidden, rankRouting } from '../../bench/harness/inputs.js'
import { shapeNamed } from '../../bench/harness/shapes.js'
import { tracedRouting } from '../../bench/harness/trace.js'
import { Random } from '../cases/random.js'

describe('inputs of the benchmark', () => {
  it('are never zeros and of unit variance', () => {
    const hidden = randomHidden(new Random(1), 300, 1000)
    expect(hidden).toHaveLength(300_000)
    expect(hidden.some(value => value === 0 || !Number.isFinite(value))).toBe(false)
    const variance = hidden.reduce((sum, value) => sum + value * value, 0) / hidden.length
    expect(variance).toBeGreaterThan(0.95)
    expect(variance).toBeLessThan(1.05)
  })

  it('differ from call to call, and have the size of the call', () => {
    const shape = shapeNamed('small')!
    for (const numTokens of [1, 7, 128, 2048]) {
      const inputs = makeInputs(shape, 'gate', numTokens, 3)!
      expect(inputs.length).toBeGreaterThanOrEqual(3)
      for (const { hidden, options } of inputs) {
        expect(hidden).toHaveLength(numTokens * 1024)
        expect(options.output).toHaveLength(numTokens * 1024)
        expect(options.routing).toBeUndefined()
      }
      expect(inputs[0]!.hidden.slice(0, 1024)).not.toEqual(inputs[1]!.hidden.slice(0, 1024))
    }
  })

  it('replay a routing where the load is not the gate', () => {
    const [input] = makeInputs(shapeNamed('small')!, 'same_experts', 4, 1)!
    expect([...input!.options.routing!.topkIds]).toEqual([0, 1, 0, 1, 0, 1, 0, 1])
  })

  it('do not exist without a trace of the shape', () => {
    expect(makeInputs(shapeNamed('small')!, 'traced', 4, 1, [])).toBeUndefined()
  })
})

describe('the routing of an expert-parallel rank', () => {
  const { topkIds, topkWeights } = rankRouting('uniform', 500, 8, 32, 256, new Random(5))

  it('gives every token at least one expert here, and −1 with weight 0 for the others', () => {
    for (let token = 0; token < 500; token++) {
      const ids = topkIds.subarray(token * 8, token * 8 + 8)
      expect(ids.some(id => id >= 0)).toBe(true)
      for (const [k, id] of ids.entries()) {
        expect(id).toBeLessThan(32)
        expect(topkWeights[token * 8 + k]! > 0).toBe(id >= 0)
      }
    }
  })

  it('has the mean of a draw of 8 from 256 that met 32 at all', () => {
    const here = topkIds.filter(id => id >= 0).length / 500
    // Mean 1 over all tokens, 66 % of which have one here.
    expect(here).toBeGreaterThan(1.35)
    expect(here).toBeLessThan(1.7)
  })
})

describe('traced routing', () => {
  const trace = {
    layer: 1,
    numExperts: 8,
    numTokens: 3,
    topK: 2,
    topkIds: Int32Array.of(0, 1, 2, 3, 4, 5),
    topkWeights: new Float32Array(6).fill(0.5),
  }

  it('takes consecutive tokens, from the beginning again after the last', () => {
    const routing = tracedRouting([trace], { numExperts: 8, topK: 2 }, 4, new Random(2))!
    const firsts = [...routing.topkIds].filter((_, slot) => slot % 2 === 0)
    for (let token = 1; token < 4; token++) expect(firsts[token]).toBe((firsts[token - 1]! + 2) % 6)
  })

  it('needs as many experts and as many per token', () => {
    expect(tracedRouting([trace], { numExperts: 8, topK: 4 }, 4, new Random(2))).toBeUndefined()
    expect(tracedRouting([], { numExperts: 8, topK: 2 }, 4, new Random(2))).toBeUndefined()
  })
})

it('makes as many copies as put some caches between two uses', () => {
  expect(copiesOf(1e9, 32e6, 16)).toBe(1)
  expect(copiesOf(50e6, 32e6, 16)).toBe(11)
})
