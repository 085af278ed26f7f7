/** The five stages over tensors, on every device, against plain loops written here and against the reference. */

import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { DTYPES, type DType, fromFloat32, toFloat32 } from '../../lib/block/dtype.js'
import { MoeLayer, reference, stages, Tensor } from '../../lib/index.js'
import { BOUNDS } from '../cases/index.js'
import { Random } from '../cases/random.js'
import { allDevices } from '../helpers/devices.js'
import { expectClose } from '../helpers/relative-error.js'

const f32 = (tensor: Tensor) => tensor.toHost() as Float32Array
const i32 = (tensor: Tensor) => tensor.toHost() as Int32Array

function floats(random: Random, shape: number[], dtype: DType, device: string, scale = 1) {
  const values = random.normals(
    shape.reduce((a, b) => a * b, 1),
    scale,
  )
  const stored = fromFloat32(values, dtype)
  return { tensor: Tensor.from(stored, shape, { dtype, device }), values: toFloat32(stored, dtype) }
}

describe.each(allDevices)('stages on %s', device => {
  // Devices may hold a router of bf16 values in less memory, never in other bits; the reference's layer keeps logits in double.
  it.skipIf(device === 'reference').each(['f32', 'bf16'] as const)(
    'a layer routes by the bits of gate and selection, router of %s values',
    stored => {
      const random = new Random(5)
      const [numTokens, hiddenSize, intermediateSize, numExperts, topK] = [9, 200, 16, 13, 3]
      const router = toFloat32(fromFloat32(random.normals(numExperts * hiddenSize, 0.2), stored), stored)
      const normals = () => random.normals(intermediateSize * hiddenSize, 0.1)
      const experts = Array.from({ length: numExperts }, () => ({
        gate: normals(),
        up: normals(),
        down: normals(),
      }))
      const routing = { topK, scoringFunc: 'softmax', normTopkProb: true } as const
      const config = { hiddenSize, intermediateSize, numExperts, ...routing }
      using layer = MoeLayer.create(
        config,
        { router: { weight: router }, experts },
        { device: device as 'cpu' },
      )
      const hidden = random.normals(numTokens * hiddenSize)
      const { topkIds, topkWeights } = layer.forwardSync(hidden)
      const logits = stages.gate(
        Tensor.from(hidden, [numTokens, hiddenSize], { device }),
        Tensor.from(router, [numExperts, hiddenSize], { device }),
      )
      const selected = stages.selectExperts(logits, routing)
      expect(topkIds).toEqual(i32(selected.topkIds))
      expect(topkWeights).toEqual(f32(selected.topkWeights))
    },
  )

  it.each([...DTYPES])('gate: f32 logits of %s inputs', dtype => {
    const random = new Random(1)
    for (const [numTokens, hiddenSize, numExperts] of [
      [1, 1, 1],
      [5, 31, 7],
      [3, 704, 65],
      [0, 8, 4],
    ] as const) {
      const hidden = floats(random, [numTokens, hiddenSize], dtype, device)
      const weight = floats(random, [numExperts, hiddenSize], dtype, device)
      const bias = floats(random, [numExperts], 'f32', device)
      const logits = stages.gate(hidden.tensor, weight.tensor, bias.tensor)
      expect(logits).toMatchObject({ dtype: 'f32', shape: [numTokens, numExperts], device })
      const expected = new Float64Array(numTokens * numExperts)
      for (let t = 0; t < numTokens; t++) {
        for (let e = 0; e < numExperts; e++) {
          let sum = bias.values[e]!
          for (let h = 0; h < hiddenSize; h++) {
            sum += hidden.values[t * hiddenSize + h]! * weight.values[e * hiddenSize + h]!
          }
          expected[t * numExperts + e] = sum
        }
      }
      expectClose(f32(logits), expected, 2e-6)
    }
  })

  it('dispatch: offsets and stable slots, whatever the ids', () => {
    fc.assert(
      fc.property(
        fc.integer({ min: 1, max: 40 }),
        fc.integer({ min: 0, max: 30 }),
        fc.integer({ min: 1, max: 6 }),
        fc.integer(),
        (numExperts, numTokens, topK, seed) => {
          const random = new Random(seed)
          const ids = Int32Array.from({ length: numTokens * topK }, () => random.integer(numExperts + 1) - 1)
          const result = stages.dispatch(Tensor.from(ids, [numTokens, topK], { device }), numExperts)
          const offsets = i32(result.expertOffsets)
          const slots = i32(result.sortedSlots)
          const expected = Array.from({ length: numExperts }, (_, expert) =>
            [...ids.keys()].filter(slot => ids[slot] === expert),
          )
          const sums = [0]
          for (const list of expected) sums.push(sums.at(-1)! + list.length)
          expect([...offsets]).toEqual(sums)
          const live = expected.flat()
          expect([...slots]).toEqual([...live, ...new Array(ids.length - live.length).fill(-1)])
        },
      ),
      { numRuns: 60 },
    )
  })

  it('dispatch refuses ids outside', () => {
    for (const bad of [4, -2]) {
      const ids = Tensor.from(Int32Array.of(0, bad), [1, 2], { device })
      expect(() => stages.dispatch(ids, 4)).toThrow(RangeError)
    }
  })

  it.each([...DTYPES])('expertMatmul in %s: gathered, gated, interleaved, biased', dtype => {
    const random = new Random(2)
    const [numTokens, topK, numExperts, cols, width] = [9, 3, 5, 47, 19]
    const ids = Int32Array.from({ length: numTokens * topK }, () => random.integer(numExperts + 1) - 1)
    const dispatched = stages.dispatch(Tensor.from(ids, [numTokens, topK], { device }), numExperts)
    for (const gated of [true, false]) {
      for (const interleaved of gated ? [true, false] : [false]) {
        for (const gather of [true, false]) {
          const rows = gated ? 2 * width : width
          const x = floats(random, [gather ? numTokens : numTokens * topK, cols], dtype, device)
          const w = floats(random, [numExperts, rows, cols], dtype, device, cols ** -0.5)
          const bias = floats(random, [numExperts, rows], 'f32', device)
          const activation = gated ? 'silu' : 'relu2'
          const out = stages.expertMatmul(x.tensor, w.tensor, dispatched, {
            gather,
            topK,
            gated,
            interleaved,
            activation,
            bias: bias.tensor,
          })
          expect(out.shape).toEqual([numTokens * topK, width])
          const expected = new Float64Array(numTokens * topK * width)
          ids.forEach((expert, slot) => {
            if (expert < 0) return
            const row = gather ? Math.floor(slot / topK) : slot
            const dot = (r: number) => {
              let sum = bias.values[expert * rows + r]!
              for (let c = 0; c < cols; c++)
                sum += w.values[(expert * rows + r) * cols + c]! * x.values[row * cols + c]!
              return sum
            }
            for (let i = 0; i < width; i++) {
              if (!gated) expected[slot * width + i] = Math.max(dot(i), 0) ** 2
              else {
                const gate = dot(interleaved ? 2 * i : i)
                const up = dot(interleaved ? 2 * i + 1 : width + i)
                expected[slot * width + i] = (gate / (1 + Math.exp(-gate))) * up
              }
            }
          })
          expectClose(f32(out), expected, BOUNDS[dtype])
        }
      }
    }
  })

  it('combine: a fixed order over slots; slots without an expert are never read', () => {
    const random = new Random(3)
    const [numTokens, topK, hiddenSize, numExperts] = [11, 4, 23, 6]
    const ids = Int32Array.from({ length: numTokens * topK }, () => random.integer(numExperts + 1) - 1)
    const rows = random.normals(numTokens * topK * hiddenSize)
    const weights = random.normals(numTokens * topK)
    ids.forEach((id, slot) => {
      if (id < 0) rows.fill(Number.NaN, slot * hiddenSize, (slot + 1) * hiddenSize)
    })
    const dispatched = stages.dispatch(Tensor.from(ids, [numTokens, topK], { device }), numExperts)
    const out = stages.combine(
      Tensor.from(rows, [numTokens * topK, hiddenSize], { device }),
      dispatched,
      Tensor.from(weights, [numTokens, topK], { device }),
    )
    const expected = new Float64Array(numTokens * hiddenSize)
    ids.forEach((id, slot) => {
      if (id < 0) return
      for (let h = 0; h < hiddenSize; h++) {
        expected[Math.floor(slot / topK) * hiddenSize + h]! += weights[slot]! * rows[slot * hiddenSize + h]!
      }
    })
    expectClose(f32(out), expected, 1e-6)
  })

  it('dispatch then combine of the slots’ own tokens, weights summing to one, is the identity', () => {
    fc.assert(
      fc.property(
        fc.integer({ min: 1, max: 20 }),
        fc.integer({ min: 1, max: 5 }),
        fc.integer(),
        (numTokens, topK, seed) => {
          const random = new Random(seed)
          const hidden = random.normals(numTokens * 8)
          const ids = Int32Array.from({ length: numTokens * topK }, () => random.integer(7))
          const dispatched = stages.dispatch(Tensor.from(ids, [numTokens, topK], { device }), 7)
          const rows = new Float32Array(numTokens * topK * 8)
          for (const slot of i32(dispatched.sortedSlots)) {
            const token = Math.floor(slot / topK)
            rows.set(hidden.subarray(token * 8, token * 8 + 8), slot * 8)
          }
          const weights = new Float32Array(numTokens * topK).fill(1 / topK)
          const out = stages.combine(
            Tensor.from(rows, [numTokens * topK, 8], { device }),
            dispatched,
            Tensor.from(weights, [numTokens, topK], { device }),
          )
          expectClose(f32(out), hidden, 1e-6)
        },
      ),
      { numRuns: 40 },
    )
  })

  it('the stages together are the layer’s routed sum', () => {
    const random = new Random(4)
    const [numTokens, hiddenSize, width, numExperts, topK] = [13, 40, 24, 9, 3]
    const hidden = floats(random, [numTokens, hiddenSize], 'f32', device)
    const router = floats(random, [numExperts, hiddenSize], 'f32', device, 0.5)
    const gateUp = floats(random, [numExperts, 2 * width, hiddenSize], 'f32', device, hiddenSize ** -0.5)
    const down = floats(random, [numExperts, hiddenSize, width], 'f32', device, width ** -0.5)
    const routing = { scoringFunc: 'softmax', normTopkProb: true, numExperts, topK } as const
    const { numExperts: _, ...withoutSize } = routing
    const logits = stages.gate(hidden.tensor, router.tensor)
    const { topkIds, topkWeights } = stages.selectExperts(logits, routing)
    expect(i32(stages.selectExperts(logits, withoutSize).topkIds)).toEqual(i32(topkIds))
    const dispatched = stages.dispatch(topkIds, numExperts)
    const h = stages.expertMatmul(hidden.tensor, gateUp.tensor, dispatched, {
      gather: true,
      gated: true,
      activation: 'silu',
    })
    const y = stages.combine(stages.expertMatmul(h, down.tensor, dispatched), dispatched, topkWeights)
    const slice = (values: Float32Array, start: number, length: number) =>
      values.subarray(start, start + length)
    const block = width * hiddenSize
    const expected = reference.forward(
      { ...routing, hiddenSize, intermediateSize: width },
      {
        router: { weight: router.values },
        experts: Array.from({ length: numExperts }, (_, e) => ({
          gate: slice(gateUp.values, 2 * e * block, block),
          up: slice(gateUp.values, (2 * e + 1) * block, block),
          down: slice(down.values, e * block, block),
        })),
      },
      hidden.values,
    )
    expect([...i32(topkIds)]).toEqual([...expected.topkIds])
    expectClose(f32(y), expected.output, BOUNDS.f32)
  })

  it('refuses what does not fit together', () => {
    const matrix = (rows: number, cols: number) =>
      Tensor.from(new Float32Array(rows * cols), [rows, cols], { device })
    expect(() => stages.gate(matrix(2, 3), matrix(4, 5))).toThrow(
      expect.objectContaining({ code: 'ERR_MOE_INVALID_ARG_SHAPE' }) as never,
    )
    expect(() => stages.gate('x' as never, matrix(4, 5))).toThrow(TypeError)
    const dispatched = stages.dispatch(Tensor.from(Int32Array.of(0, 1), [1, 2], { device }), 2)
    const forged = { ...dispatched, sortedSlots: Tensor.from(Int32Array.of(0, 99), [2], { device }) }
    expect(() => stages.combine(matrix(2, 3), forged, matrix(1, 2))).toThrow(RangeError)
    const gone = matrix(2, 3)
    gone.dispose()
    expect(() => stages.gate(gone, matrix(4, 3))).toThrow(
      expect.objectContaining({ code: 'ERR_MOE_DISPOSED' }) as never,
    )
    expect(() => Tensor.from(new Float32Array(5), [2, 3])).toThrow(RangeError)
    expect(() => Tensor.from(new Uint16Array(6), [2, 3])).toThrow(RangeError)
    expect(() => Tensor.from(new Float32Array(6), [2, 3], { device: 'cuda:97' })).toThrow(
      expect.objectContaining({ code: 'ERR_MOE_DEVICE_UNAVAILABLE' }) as never,
    )
  })
})
