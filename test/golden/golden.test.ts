/** Every golden checkpoint, written by an independent generator, loads in TypeScript and gives the stored routing and output. */

import { describe, expect, it } from 'vitest'
import { loadMatrices } from '../../lib/checkpoint/load/matrices.js'
import { readVectors } from '../../lib/checkpoint/load/vectors.js'
import { planLayer } from '../../lib/checkpoint/plan/layer.js'
import { assembleWeights } from '../../lib/devices/reference/assemble.js'
import { FAMILIES } from '../../lib/families/index.js'
import { reference } from '../../lib/reference/index.js'
import { BOUNDS, SELECTION_MARGIN } from '../cases/index.js'
import { expectClose } from '../helpers/relative-error.js'
import { goldenCases } from './cases.js'

/** Of the output, and of the routing weights: both sides compute in double precision from the same stored numbers. */
const BOUND = BOUNDS.f32

const cases = goldenCases()

it('there are golden cases, for every family row', () => {
  expect(cases.length).toBeGreaterThanOrEqual(90)
  const families = new Set(cases.map(({ expected }) => expected.family))
  const without = FAMILIES.filter(({ modelTypes }) => !modelTypes.some(type => families.has(type)))
  // The arithmetic of gpt_oss with gate and up as halves; no generator case.
  expect(without.map(({ modelTypes }) => modelTypes[0])).toEqual(['openai_privacy_filter'])
})

describe.each(cases)('$name', ({ directory, expected }) => {
  it('loads and computes what the generator computed', async () => {
    const plan = await planLayer(directory, { layer: expected.layer, module: expected.module })
    const row = FAMILIES.find(({ modelTypes }) => modelTypes.includes(expected.family))
    expect(row?.modelTypes).toContain(plan.config.family)
    expect(plan.config.hiddenSize).toBe(expected.hiddenSize)
    expect(plan.config.topK).toBe(expected.topK)

    let bytes = 0
    const onBytes = (read: number) => (bytes += read)
    const vectors = await readVectors(plan, { onBytes })
    const matrices = await loadMatrices(plan, 'f32', { onBytes })
    expect(bytes).toBe(plan.totalBytes)

    const result = reference.forward(
      plan.config,
      assembleWeights(plan.config, 'f32', vectors, matrices),
      expected.input,
      {
        tokenIds: expected.tokenIds,
        routerInput: expected.routerInput,
        sequenceLengths: expected.sequenceLengths,
      },
    )
    expect(result.nonFiniteRows).toHaveLength(0)
    expect(Math.min(...expected.margins)).toBeGreaterThan(SELECTION_MARGIN)
    expect(Array.from(result.topkIds)).toEqual(expected.topkIds)
    expectClose(result.topkWeights, expected.topkWeights, BOUND, 'weights')
    expectClose(result.output, expected.output, BOUND, 'output')
  })
})
