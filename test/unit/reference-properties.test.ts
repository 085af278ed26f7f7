import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import type { MoeConfig } from '../../lib/block/config.js'
import { resolveConfig } from '../../lib/block/resolve.js'
import type { ExpertWeights, MoeWeights } from '../../lib/block/weights.js'
import { reference } from '../../lib/reference/index.js'
import { Random } from '../cases/random.js'
import { expectClose } from '../helpers/relative-error.js'

interface Block {
  config: MoeConfig
  weights: MoeWeights
  hidden: Float32Array
  numTokens: number
  random: Random
}

type Fields = Record<string, unknown>

/** The rule's own fields, by family, given E experts in G groups. */
const rules: Record<string, (random: Random, groups: number) => Fields> = {
  softmax: () => ({ scoringFunc: 'softmax', normTopkProb: false }),
  renormalised: () => ({ scoringFunc: 'softmax', normTopkProb: true, normFloor: 1e-12 }),
  deepseek: (_, groups) => ({
    scoringFunc: 'sigmoid',
    normTopkProb: true,
    normEpsilon: 1e-20,
    routedScalingFactor: 2.5,
    ...(groups > 1 && { numExpertGroups: groups, topkGroup: 2, groupScore: 'top2_sum' }),
  }),
  sqrtsoftplus: () => ({ scoringFunc: 'sqrtsoftplus', normTopkProb: true }),
  topkSoftmax: () => ({ scoringFunc: 'topk_softmax', logitSoftcap: 5 }),
  topkSigmoid: () => ({ scoringFunc: 'topk_sigmoid' }),
}

const block = fc
  .record({
    seed: fc.nat(),
    rule: fc.constantFrom(...Object.keys(rules)),
    numTokens: fc.integer({ min: 0, max: 9 }),
    hiddenSize: fc.integer({ min: 1, max: 9 }),
    intermediateSize: fc.integer({ min: 1, max: 9 }),
    groups: fc.constantFrom(1, 2, 4),
    perGroup: fc.integer({ min: 2, max: 5 }),
    topK: fc.integer({ min: 1, max: 4 }),
    activation: fc.constantFrom('silu', 'gelu', 'relu2'),
    gated: fc.boolean(),
    shared: fc.boolean(),
    biased: fc.boolean(),
  })
  .map((s): Block => {
    const random = new Random(s.seed)
    const numExperts = s.groups * s.perGroup
    const size = s.hiddenSize
    const config = {
      ...rules[s.rule]!(random, s.groups),
      numExperts,
      topK: Math.min(s.topK, numExperts),
      hiddenSize: size,
      intermediateSize: s.intermediateSize,
      activation: s.activation,
      gated: s.gated,
      numSharedExperts: s.shared ? 1 : 0,
    } as unknown as MoeConfig
    const expert = (): ExpertWeights => ({
      ...(s.gated && { gate: random.normals(s.intermediateSize * size) }),
      up: random.normals(s.intermediateSize * size),
      down: random.normals(size * s.intermediateSize),
      ...(s.biased && { upBias: random.normals(s.intermediateSize), downBias: random.normals(size) }),
    })
    const weights: MoeWeights = {
      router: {
        weight: random.normals(numExperts * size),
        ...(s.rule === 'deepseek' && { selectionBias: random.normals(numExperts) }),
      },
      experts: Array.from({ length: numExperts }, expert),
      ...(s.shared && { shared: expert() }),
    }
    return { config, weights, hidden: random.normals(s.numTokens * size), numTokens: s.numTokens, random }
  })

const rowsOf = <A extends Float64Array | Int32Array>(values: A, order: readonly number[]) => {
  const size = order.length === 0 ? 0 : values.length / order.length
  return order.flatMap(row => Array.from(values.slice(row * size, (row + 1) * size)))
}

describe('whole blocks', () => {
  it('permuting tokens permutes outputs, bit for bit', () => {
    fc.assert(
      fc.property(block, ({ config, weights, hidden, numTokens, random }) => {
        const order = random.permutation(numTokens)
        const { hiddenSize } = config
        const permuted = order.flatMap(row => [...hidden.slice(row * hiddenSize, (row + 1) * hiddenSize)])
        const plain = reference.forward(config, weights, hidden)
        const result = reference.forward(config, weights, permuted)
        expect([...result.output]).toEqual(rowsOf(plain.output, order))
        expect([...result.topkIds]).toEqual(rowsOf(plain.topkIds, order))
        expect([...result.topkWeights]).toEqual(rowsOf(plain.topkWeights, order))
      }),
    )
  })

  it('topK of the config and topP 1 change no bit', () => {
    fc.assert(
      fc.property(block, ({ config, weights, hidden, numTokens }) => {
        const plain = reference.forward(config, weights, hidden)
        const { topK } = config
        const perRow = new Uint8Array(numTokens).fill(topK)
        for (const options of [{ topK, topP: 1 }, { topK: perRow }, { routing: plain }]) {
          const { output, topkIds, topkWeights } = reference.forward(config, weights, hidden, options)
          expect({ output, topkIds, topkWeights }).toEqual({
            output: plain.output,
            topkIds: plain.topkIds,
            topkWeights: plain.topkWeights,
          })
        }
      }),
    )
  })

  it('the config that it resolves to gives the same bits', () => {
    fc.assert(
      fc.property(block, ({ config, weights, hidden }) => {
        const resolved = resolveConfig(config)
        expect(reference.forward(resolved, weights, hidden)).toEqual(
          reference.forward(config, weights, hidden),
        )
      }),
    )
  })

  it('scaling the down projections scales the routed output', () => {
    fc.assert(
      fc.property(block, ({ config, weights, hidden }) => {
        const factor = 4
        const scaled = (expert: ExpertWeights): ExpertWeights => ({
          ...expert,
          down: (expert.down as Float32Array).map(v => v * factor),
          downBias: expert.downBias?.map(v => v * factor),
        })
        const result = reference.forward(
          config,
          {
            ...weights,
            experts: weights.experts.map(scaled),
            shared: weights.shared && scaled(weights.shared),
          },
          hidden,
        )
        const plain = reference.forward(config, weights, hidden).output
        expect(result.output).toEqual(plain.map(v => v * factor))
      }),
    )
  })

  it('equals its own stages', () => {
    fc.assert(
      fc.property(block, ({ config, weights, hidden, numTokens }) => {
        const { hiddenSize, intermediateSize, numExperts, topK } = config
        const { activation, gated, swigluLimit, swigluAlpha, swigluUpOffset, ...rest } = resolveConfig(config)
        const result = reference.forward(config, weights, hidden)
        const router = weights.router.weight as Float32Array
        const logits = reference.gate(hidden, router, null, { hiddenSize, numExperts })
        expect(logits).toEqual(result.routerLogits)
        const routing = Object.fromEntries(
          Object.entries(config).filter(
            ([key]) =>
              !['hiddenSize', 'intermediateSize', 'activation', 'gated', 'numSharedExperts'].includes(key),
          ),
        ) as never
        const { selectionBias } = weights.router
        const selected = reference.selectExperts(logits, { ...(routing as object), selectionBias } as never)
        expect(selected.topkIds).toEqual(result.topkIds)
        expect(selected.topkWeights).toEqual(result.topkWeights)
        if (rest.numSharedExperts > 0) return
        const slots = reference.dispatch(selected.topkIds, numExperts)
        const join = (pick: (expert: ExpertWeights) => (Float32Array | undefined)[]) =>
          weights.experts.flatMap(expert => pick(expert).flatMap(part => [...(part ?? [])]))
        const noGateBias = new Float32Array(intermediateSize)
        const biased = weights.experts[0]!.upBias !== undefined
        const inner = reference.expertMatmul(
          hidden,
          join(e => [e.gate as Float32Array | undefined, e.up as Float32Array]),
          slots,
          {
            rows: gated ? 2 * intermediateSize : intermediateSize,
            cols: hiddenSize,
            gather: true,
            topK,
            bias: biased ? join(e => [gated ? noGateBias : undefined, e.upBias]) : null,
            activation: { activation, gated, swigluLimit, swigluAlpha, swigluUpOffset },
          },
        )
        const outer = reference.expertMatmul(
          inner,
          join(e => [e.down as Float32Array]),
          slots,
          {
            rows: hiddenSize,
            cols: intermediateSize,
            bias: biased ? join(e => [e.downBias]) : null,
          },
        )
        const combined = reference.combine(outer, selected.topkIds, selected.topkWeights, {
          topK,
          hiddenSize,
        })
        expect(combined).toHaveLength(numTokens * hiddenSize)
        expectClose(combined, result.output, 1e-14)
      }),
    )
  })
})

describe('selection', () => {
  it('of fewer experts is a prefix of the selection of more', () => {
    fc.assert(
      fc.property(block, ({ config, weights, hidden }) => {
        const { topkIds } = reference.forward(config, weights, hidden)
        for (let kept = 0; kept <= config.topK; kept++) {
          const reduced = reference.forward(config, weights, hidden, { topK: kept }).topkIds
          reduced.forEach((id, slot) => {
            expect(id).toBe(slot % config.topK < kept ? topkIds[slot] : -1)
          })
        }
      }),
      { numRuns: 40 },
    )
  })

  it('keeps fewer experts for a smaller topP, nested, at least one per token', () => {
    const share = fc.double({ min: 0.01, max: 1, noNaN: true })
    fc.assert(
      fc.property(block, share, share, ({ config, weights, hidden, numTokens }, a, b) => {
        const ids = (topP: number) => reference.forward(config, weights, hidden, { topP }).topkIds
        const [fewer, more] = [ids(Math.min(a, b)), ids(Math.max(a, b))]
        fewer.forEach((id, slot) => {
          if (id >= 0) expect(more[slot]).toBe(id)
        })
        for (let t = 0; t < numTokens; t++)
          expect(fewer.slice(t * config.topK, (t + 1) * config.topK).some(id => id >= 0)).toBe(true)
      }),
    )
  })

  it('gives distinct experts, ranked by weight where nothing biases it', () => {
    fc.assert(
      fc.property(block, ({ config, weights, hidden, numTokens }) => {
        const { topkIds, topkWeights } = reference.forward(config, weights, hidden)
        for (let t = 0; t < numTokens; t++) {
          const ids = [...topkIds.slice(t * config.topK, (t + 1) * config.topK)]
          expect(new Set(ids).size).toBe(config.topK)
          if (weights.router.selectionBias) continue
          const row = [...topkWeights.slice(t * config.topK, (t + 1) * config.topK)]
          expect(row).toEqual([...row].sort((a, b) => b - a))
        }
      }),
    )
  })

  it('weighs linearly in the scaling factor', () => {
    fc.assert(
      fc.property(block, ({ config, weights, hidden }) => {
        const plain = reference.forward({ ...config, routedScalingFactor: 1 }, weights, hidden)
        const scaled = reference.forward({ ...config, routedScalingFactor: 8 }, weights, hidden)
        expect(scaled.topkIds).toEqual(plain.topkIds)
        expect(scaled.topkWeights).toEqual(plain.topkWeights.map(w => 8 * w))
      }),
    )
  })
})

describe('dispatch and combine', () => {
  const routed = fc
    .record({
      numTokens: fc.integer({ min: 0, max: 20 }),
      topK: fc.integer({ min: 1, max: 5 }),
      seed: fc.nat(),
    })
    .chain(({ numTokens, topK, seed }) =>
      fc.record({
        numTokens: fc.constant(numTokens),
        topK: fc.constant(topK),
        numExperts: fc.integer({ min: 1, max: 12 }),
        random: fc.constant(new Random(seed)),
      }),
    )

  it('offsets sum to the slots, and each slot stands once under its expert, rising', () => {
    fc.assert(
      fc.property(routed, ({ numTokens, topK, numExperts, random }) => {
        const ids = Int32Array.from({ length: numTokens * topK }, () => random.integer(numExperts))
        const { expertOffsets, sortedSlots } = reference.dispatch(ids, numExperts)
        expect(expertOffsets[numExperts]).toBe(numTokens * topK)
        expect([...sortedSlots].sort((a, b) => a - b)).toEqual([...ids.keys()])
        for (let e = 0; e < numExperts; e++) {
          const slots = [...sortedSlots.slice(expertOffsets[e], expertOffsets[e + 1])]
          expect(slots).toEqual([...slots].sort((a, b) => a - b))
          expect(slots.every(slot => ids[slot] === e)).toBe(true)
        }
      }),
    )
  })

  it('with identity matrices and weights that sum to 1 give the tokens back', () => {
    fc.assert(
      fc.property(routed, fc.integer({ min: 1, max: 6 }), (shape, hiddenSize) => {
        const { numTokens, topK, numExperts, random } = shape
        const ids = Int32Array.from({ length: numTokens * topK }, () => random.integer(numExperts))
        const hidden = random.normals(numTokens * hiddenSize)
        const eye = Float64Array.from({ length: hiddenSize ** 2 }, (_, i) =>
          i % (hiddenSize + 1) === 0 ? 1 : 0,
        )
        const matrices = Float64Array.from(
          { length: numExperts * eye.length },
          (_, i) => eye[i % eye.length]!,
        )
        const slots = reference.dispatch(ids, numExperts)
        const options = { rows: hiddenSize, cols: hiddenSize, gather: true, topK }
        const expertOutput = reference.expertMatmul(hidden, matrices, slots, options)
        const weights = new Float64Array(numTokens * topK).fill(1 / topK)
        expectClose(reference.combine(expertOutput, ids, weights, { topK, hiddenSize }), hidden, 1e-15)
      }),
    )
  })
})
