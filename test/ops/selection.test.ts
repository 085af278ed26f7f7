/** Routing on every native device against the reference: every rule, awkward numbers of experts, ties, rows that are not finite. */

import { describe, expect, it } from 'vitest'
import { MoeLayer, type RoutingConfig, reference, stages, Tensor } from '../../lib/index.js'
import { FAMILY_CASES, SELECTION_MARGIN, WEIGHT_BOUND } from '../cases/index.js'
import { makeLayerData } from '../cases/layer-data.js'
import { Random } from '../cases/random.js'
import { nativeDevices, underDetectors } from '../helpers/devices.js'
import { relativeError } from '../helpers/relative-error.js'
import { routingOf } from '../helpers/routing-of.js'
import { expectSame } from '../helpers/same.js'

function select(
  device: string,
  logits: Float32Array,
  routing: RoutingConfig,
  options: stages.SelectOptions = {},
) {
  const outputs = routing.numExperts + (routing.numIdentityExperts ?? 0)
  const tensor = Tensor.from(logits, [logits.length / outputs, outputs], { device })
  const { topkIds, topkWeights } = stages.selectExperts(tensor, routing, options)
  return { ids: topkIds.toHost() as Int32Array, weights: topkWeights.toHost() as Float32Array }
}

function compare(
  device: string,
  logits: Float32Array,
  routing: RoutingConfig,
  options: stages.SelectOptions = {},
) {
  const native = select(device, logits, routing, options)
  const oracle = reference.selectExperts(logits, routing, options)
  const { margin, orderGap } = reference.selectionMargins(logits, routing, options)
  const { topK } = routing
  let compared = 0
  margin.forEach((gap, token) => {
    if (gap <= SELECTION_MARGIN || orderGap[token]! <= 1e-6) return
    const row = [token * topK, (token + 1) * topK] as const
    expectSame(native.ids.subarray(...row), oracle.topkIds.subarray(...row), `token ${token}`)
    const error = relativeError(native.weights.subarray(...row), oracle.topkWeights.subarray(...row))
    // A call of expect takes longer than all of the above, for each of 200 tokens under each compute budget.
    if (!(error < WEIGHT_BOUND)) expect(error, `token ${token}`).toBeLessThan(WEIGHT_BOUND)
    compared++
  })
  return compared
}

for (const device of nativeDevices) {
  describe(`selectExperts on ${device}`, () => {
    const cases = FAMILY_CASES.filter(layerCase => layerCase.config.capacity === undefined)

    it.each(cases)('$name: the rule, with every compute budget', layerCase => {
      const { config, weights } = makeLayerData(layerCase, 'f32')
      const { selectionBias, perExpertScale, hashTable } = weights.router
      const routing = {
        ...routingOf(config),
        selectionBias,
        perExpertScale,
        hashTable,
      } as never as RoutingConfig
      const random = new Random(11)
      const numTokens = underDetectors ? 40 : 200
      const logits = random.normals(numTokens * (config.numExperts + config.numIdentityExperts), 2)
      const tokenIds = config.hashRouted
        ? Int32Array.from({ length: numTokens }, () => random.integer(97))
        : undefined
      const perRow = Uint8Array.from({ length: numTokens }, () => random.integer(config.topK + 1))
      const shares = Float32Array.from({ length: numTokens }, (_, token) => [0.05, 0.5, 0.8, 1][token % 4]!)
      let compared = 0
      for (const topK of [undefined, 0, 1, config.topK, perRow]) {
        for (const topP of [undefined, 0.05, 0.5, 0.8, 1, shares]) {
          compared += compare(device, logits, routing, { topK, topP, tokenIds })
        }
      }
      expect(compared).toBeGreaterThan(numTokens * 10)
    })

    it('any number of experts: a planted winner at every index is found', () => {
      for (const numExperts of [
        1, 2, 3, 31, 60, 63, 64, 65, 127, 160, 192, 255, 256, 257, 288, 384, 512, 1023, 1024, 1025, 4096,
      ]) {
        // Under detectors: enough to have each lane of a warp win.
        const step = underDetectors ? Math.floor(numExperts / 70) | 1 : 1
        const winners = Array.from(
          { length: Math.ceil(numExperts / step) },
          (_, i) => numExperts - 1 - i * step,
        )
        const logits = new Float32Array(winners.length * numExperts)
        const row = Float32Array.from({ length: numExperts }, (_, expert) => -expert / numExperts)
        for (const [token, winner] of winners.entries()) {
          logits.set(row, token * numExperts)
          logits[token * numExperts + winner] = 3
        }
        const { ids } = select(device, logits, { numExperts, topK: 1, scoringFunc: 'topk_softmax' })
        expect(
          ids.every((id, token) => id === winners[token]),
          `E = ${numExperts}`,
        ).toBe(true)
      }
    })

    it('k up to 64 of 257 experts agrees with the reference', () => {
      const logits = new Random(5).normals(20 * 257, 3)
      for (const topK of [1, 2, 6, 8, 10, 22, 33, 64]) {
        const compared = compare(device, logits, {
          numExperts: 257,
          topK,
          scoringFunc: 'sigmoid',
          normTopkProb: true,
        })
        expect(compared).toBeGreaterThan(0)
      }
    })

    it('ties go to the lower index', () => {
      const logits = new Float32Array(3 * 40)
      logits.fill(1, 40, 80)
      for (let expert = 0; expert < 40; expert++) logits[80 + expert] = expert % 3
      for (const scoringFunc of ['softmax', 'sigmoid', 'sqrtsoftplus'] as const) {
        const { ids } = select(device, logits, { numExperts: 40, topK: 5, scoringFunc, normTopkProb: true })
        expect([...ids]).toEqual([0, 1, 2, 3, 4, 0, 1, 2, 3, 4, 2, 5, 8, 11, 14])
      }
    })

    it.each([Number.NaN, Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY])(
      'a logit of %s flags its row and changes no other',
      bad => {
        const routing: RoutingConfig = { numExperts: 12, topK: 3, scoringFunc: 'softmax', normTopkProb: true }
        const logits = new Random(9).normals(5 * 12, 2)
        const clean = select(device, logits, routing)
        const dirty = logits.slice()
        dirty[2 * 12 + 7] = bad
        const { ids, weights } = select(device, dirty, routing)
        expect([...ids.subarray(6, 9)]).toEqual([0, 1, 2])
        expect([...weights.subarray(6, 9)].every(Number.isNaN)).toBe(true)
        for (const row of [0, 1, 3, 4]) {
          expect(ids.subarray(row * 3, row * 3 + 3)).toEqual(clean.ids.subarray(row * 3, row * 3 + 3))
          expect(weights.subarray(row * 3, row * 3 + 3)).toEqual(clean.weights.subarray(row * 3, row * 3 + 3))
        }
      },
    )

    it('rows that are not finite: flagged, NaN, and no other row of the layer changes', () => {
      const { config, weights, hidden, options } = makeLayerData(FAMILY_CASES[3]!, 'f32')
      using layer = MoeLayer.create(config, weights, { device: device as 'cpu' })
      const clean = layer.forwardSync(hidden, options)
      const { hiddenSize, topK } = config
      for (const bad of [Number.NaN, Number.POSITIVE_INFINITY]) {
        const dirty = hidden.slice()
        dirty[4 * hiddenSize + 3] = bad
        const result = layer.forwardSync(dirty, options)
        expect([...result.nonFiniteRows]).toEqual([4])
        const ids = [...result.topkIds.subarray(4 * topK, 5 * topK)]
        expect(new Set(ids).size).toBe(topK)
        expect(ids.every(id => id >= 0 && id < config.numExperts)).toBe(true)
        const [begin, end] = [4 * hiddenSize, 5 * hiddenSize]
        expect(result.output.subarray(begin, end).every(Number.isNaN)).toBe(true)
        expectSame(result.output.subarray(0, begin), clean.output.subarray(0, begin))
        expectSame(result.output.subarray(end), clean.output.subarray(end))
      }
    })
  })
}
