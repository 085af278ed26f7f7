import { describe, expect, it } from 'vitest'
import { fromFloat32 } from '../../lib/block/dtype.js'
import { resolveRouting } from '../../lib/block/resolve.js'
import { onHost } from '../../lib/devices/device-array.js'
import { referenceStages } from '../../lib/devices/reference/stages.js'
import { normalizeRouterInput } from '../../lib/reference/gate.js'
import { reference } from '../../lib/reference/index.js'
import { Random } from '../cases/random.js'
import { expectClose, relativeError } from '../helpers/relative-error.js'

const swiglu = {
  activation: 'silu',
  gated: true,
  swigluLimit: 0,
  swigluGateLimit: 0,
  swigluAlpha: 1,
  swigluUpOffset: 0,
} as const

describe('gate', () => {
  it('multiplies rows by the router and adds the bias', () => {
    const logits = reference.gate([1, 2, 3, 4], [1, 0, 0, 1, 1, 1], [10, 20, 30], {
      hiddenSize: 2,
      numExperts: 3,
    })
    expect([...logits]).toEqual([11, 22, 33, 13, 24, 37])
  })

  it('reads a transposed router by its strides', () => {
    const weight = { data: Float32Array.of(1, 0, 1, 0, 1, 1), strides: [1, 3] as const }
    expect([...reference.gate([1, 2], weight, null, { hiddenSize: 2, numExperts: 3 })]).toEqual([1, 2, 3])
  })

  it('refuses lengths that do not fit', () => {
    const sizes = { hiddenSize: 2, numExperts: 2 }
    const code = expect.objectContaining({ code: 'ERR_MOE_INVALID_ARG_SHAPE' })
    expect(() => reference.gate([1, 2, 3], [1, 0, 0, 1], null, sizes)).toThrow(code)
    expect(() => reference.gate([1, 2], [1, 0, 0], null, sizes)).toThrow(code)
    expect(() => reference.gate([1, 2], [1, 0, 0, 1], [1], sizes)).toThrow(code)
  })

  it('normalises router input by root mean square, scale and the root of the width', () => {
    const row = normalizeRouterInput([3, 4, 0, 0], [1, 2, 1, 1], 0)
    // rms = 2.5, width 4.
    expectClose(row, [0.6, 1.6, 0, 0], 1e-15)
    expectClose(normalizeRouterInput([1], [1], 3), [0.5], 1e-15)
  })
})

describe('dispatch', () => {
  it('groups slots by expert, rising, with the rest behind', () => {
    const { expertOffsets, sortedSlots } = reference.dispatch([2, 0, -1, 2, 0, 9], 4)
    expect([...expertOffsets]).toEqual([0, 2, 2, 4, 4])
    expect([...sortedSlots]).toEqual([1, 4, 0, 3, -1, -1])
  })

  it('takes no slots', () => {
    const { expertOffsets, sortedSlots } = reference.dispatch([], 2)
    expect([...expertOffsets]).toEqual([0, 0, 0])
    expect(sortedSlots).toHaveLength(0)
  })
})

describe('expertMatmul', () => {
  const weights = [1, 2, 3, 4, 10, 20, 30, 40]

  it('multiplies each slot by the matrix of its expert; slots without one stay 0', () => {
    const slots = reference.dispatch([1, 0, -1], 2)
    const out = reference.expertMatmul([1, 1, 1, 0, 9, 9], weights, slots, { rows: 2, cols: 2 })
    expect([...out]).toEqual([30, 70, 1, 3, 0, 0])
  })

  it('gathers the row of the token, and adds the bias of the expert', () => {
    const slots = reference.dispatch([0, 1, 1, 0], 2)
    const options = { rows: 2, cols: 2, gather: true, topK: 2, bias: [0.5, 0, 0, 0.25] }
    const out = reference.expertMatmul([1, 0, 0, 1], weights, slots, options)
    expect([...out]).toEqual([1.5, 3, 10, 30.25, 20, 40.25, 2.5, 4])
  })

  it('joins gate and up, as halves or interleaved', () => {
    const slots = reference.dispatch([0], 1)
    const halves = reference.expertMatmul([1], [1, 2, 3, 4], slots, { rows: 4, cols: 1, activation: swiglu })
    const silu = (g: number) => g / (1 + Math.exp(-g))
    expectClose(halves, [silu(1) * 3, silu(2) * 4], 1e-15)
    const options = { rows: 4, cols: 1, activation: swiglu, interleaved: true }
    expectClose(reference.expertMatmul([1], [1, 3, 2, 4], slots, options), halves, 0)
  })

  it('takes one strided matrix per expert', () => {
    const data = Float32Array.from(weights)
    const transposed = [0, 4].map(offset => ({ data, offset, strides: [1, 2] as const }))
    const slots = reference.dispatch([0, 1], 2)
    const out = reference.expertMatmul([1, 0, 0, 1], transposed, slots, { rows: 2, cols: 2 })
    expect([...out]).toEqual([1, 2, 30, 40])
  })
})

describe('combine', () => {
  it('sums by weight and never reads dropped slots', () => {
    const expertOutput = [1, 2, 10, 20, 5, 6, Number.NaN, Number.NaN]
    const sizes = { topK: 2, hiddenSize: 2 }
    const out = reference.combine(expertOutput, [0, 1, 0, -1], [0.5, 0.1, 2, 0], sizes)
    expect([...out]).toEqual([1.5, 3, 10, 12])
    expect([...reference.combine([1, 2, 3, 4], null, [1, 1], sizes)]).toEqual([4, 6])
  })
})

describe('stages of the device', () => {
  const random = new Random(5)
  const [numTokens, hiddenSize, numExperts, topK, width] = [6, 8, 5, 2, 3]
  const hidden = random.normals(numTokens * hiddenSize)
  const router = random.normals(numExperts * hiddenSize)

  it('round the reference once to f32', () => {
    const logits = onHost(
      referenceStages.gate(hidden, 'f32', router, 'f32', null, numTokens, hiddenSize, numExperts),
    )
    const exact = reference.gate(hidden, router, null, { hiddenSize, numExperts })
    expect(logits).toEqual(Float32Array.from(exact))

    const rule = { scoringFunc: 'softmax', numExperts, topK, normTopkProb: true } as const
    const call = { tokenIds: null, topK: Uint8Array.of(2, 1, 0, 2, 2, 2), topP: 1, sequenceLengths: null }
    const selected = referenceStages.selectExperts(logits, numTokens, resolveRouting(rule), {}, call)
    const expected = reference.selectExperts(logits, rule, { topK: call.topK })
    expect(selected.topkIds).toEqual(expected.topkIds)
    expect(selected.topkWeights).toEqual(Float32Array.from(expected.topkWeights))

    const dispatched = referenceStages.dispatch(selected.topkIds, numTokens * topK, numExperts)
    const slots = {
      expertOffsets: onHost(dispatched.expertOffsets),
      sortedSlots: onHost(dispatched.sortedSlots),
    }
    const weights = random.normals(numExperts * 2 * width * hiddenSize)
    const matmul = referenceStages.expertMatmul({
      ...slots,
      x: hidden,
      xDtype: 'f32',
      xRows: numTokens,
      weights,
      weightsDtype: 'f32',
      numExperts,
      rows: 2 * width,
      cols: hiddenSize,
      bias: null,
      gather: true,
      topK,
      interleaved: true,
      activation: swiglu,
    })
    const output = onHost(matmul)
    expect(output).toHaveLength(numTokens * topK * width)
    const options = {
      rows: 2 * width,
      cols: hiddenSize,
      gather: true,
      topK,
      interleaved: true,
      activation: swiglu,
    }
    expect(output).toEqual(Float32Array.from(reference.expertMatmul(hidden, weights, slots, options)))

    const topkIds = onHost(selected.topkIds)
    const topkWeights = onHost(selected.topkWeights)
    const sizes = { numExperts, numTokens, topK, hiddenSize: width }
    const sum = onHost(referenceStages.combine(output, slots, topkWeights, sizes))
    expect(sum).toEqual(Float32Array.from(reference.combine(output, topkIds, topkWeights, sizes)))
    expect([...sum.slice(2 * width, 3 * width)]).toEqual([0, 0, 0])
  })

  it('read 16-bit inputs as their dtype', () => {
    const bits = fromFloat32(hidden, 'bf16')
    const routerBits = fromFloat32(router, 'f16')
    const logits = referenceStages.gate(
      bits,
      'bf16',
      routerBits,
      'f16',
      null,
      numTokens,
      hiddenSize,
      numExperts,
    )
    const exact = reference.gate(hidden, router, null, { hiddenSize, numExperts })
    const error = relativeError(onHost(logits), exact)
    expect(error).toBeGreaterThan(0)
    expect(error).toBeLessThan(2 ** -8)
  })
})
