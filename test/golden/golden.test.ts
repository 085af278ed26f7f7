/** Every golden checkpoint, written by an independent generator, loads and gives the stored routing and output. */

import { existsSync, readdirSync, readFileSync } from 'node:fs'
import path from 'node:path'
import { describe, expect, it } from 'vitest'
import type { VectorTensors } from '../../lib/backends/runtime.js'
import { type LoadedExpert, type LoadedMatrices, loadMatrices } from '../../lib/checkpoint/load-matrices.js'
import type { LayerPlan } from '../../lib/checkpoint/plan.js'
import { planLayer } from '../../lib/checkpoint/plan-layer.js'
import { readVectors } from '../../lib/checkpoint/read-vectors.js'
import { FAMILIES } from '../../lib/families/index.js'
import { reference } from '../../lib/reference/index.js'
import type { ExpertWeights, MoeWeights } from '../../lib/weights.js'

const CASES = path.join(import.meta.dirname, 'cases')

/** ||out - expected|| / ||expected|| of the whole output. */
const OUTPUT_BOUND = 5e-6
/** Of each routing weight, which comes from logits of f32 data in double precision on both sides. */
const WEIGHT_BOUND = 5e-6
/** Ids must agree where the selection margin is above this. */
const MARGIN = 1e-3

interface Expected {
  family: string
  layer: number
  numTokens: number
  hiddenSize: number
  topK: number
  input: number[]
  routerInput?: number[]
  tokenIds?: number[]
  sequenceLengths?: number[]
  topkIds: number[]
  topkWeights: number[]
  output: number[]
  margins: number[]
}

function slice(all: Float32Array | undefined, index: number, length: number): Float32Array | undefined {
  return all?.slice(index * length, (index + 1) * length)
}

function assemble(plan: LayerPlan, vectors: VectorTensors, matrices: LoadedMatrices): MoeWeights {
  const { intermediateSize, hiddenSize, latentSize } = plan.config
  const withBiases = (expert: LoadedExpert, e: number): ExpertWeights => ({
    ...expert,
    gateBias: slice(vectors.gateBias, e, intermediateSize),
    upBias: slice(vectors.upBias, e, intermediateSize),
    downBias: slice(vectors.downBias, e, latentSize || hiddenSize),
  })
  return {
    dtype: 'f32',
    router: {
      weight: vectors.routerWeight,
      bias: vectors.routerBias,
      selectionBias: vectors.selectionBias,
      perExpertScale: vectors.perExpertScale,
      inputScale: vectors.routerInputScale,
      hashTable: vectors.hashTable,
    },
    experts: matrices.experts.map(withBiases),
    shared: matrices.shared && {
      ...matrices.shared,
      gateBias: vectors.sharedGateBias,
      upBias: vectors.sharedUpBias,
      downBias: vectors.sharedDownBias,
    },
    sharedGate: vectors.sharedGate,
    latentDown: matrices.latentDown,
    latentUp: matrices.latentUp,
    outputBias: vectors.outputBias,
  }
}

function relativeError(values: ArrayLike<number>, expected: ArrayLike<number>): number {
  expect(values.length).toBe(expected.length)
  let difference = 0
  let norm = 0
  for (let i = 0; i < values.length; i++) {
    difference += (values[i]! - expected[i]!) ** 2
    norm += expected[i]! ** 2
  }
  return Math.sqrt(difference / norm)
}

const names = existsSync(CASES)
  ? readdirSync(CASES).filter(name => existsSync(path.join(CASES, name, 'expected.json')))
  : []

it('there are golden cases', () => {
  expect(names.length).toBeGreaterThan(90)
})

describe.each(names)('%s', name => {
  const directory = path.join(CASES, name)
  const expected = JSON.parse(readFileSync(path.join(directory, 'expected.json'), 'utf8')) as Expected

  it('loads and computes what the generator computed', async () => {
    const plan = await planLayer(directory, { layer: expected.layer })
    const row = FAMILIES.find(({ modelTypes }) => modelTypes.includes(expected.family))
    expect(row?.modelTypes).toContain(plan.config.family)
    expect(plan.config.hiddenSize).toBe(expected.hiddenSize)
    expect(plan.config.topK).toBe(expected.topK)

    let bytes = 0
    const onBytes = (read: number) => (bytes += read)
    const vectors = await readVectors(plan, { onBytes })
    const matrices = await loadMatrices(plan, 'f32', { onBytes })
    expect(bytes).toBe(plan.totalBytes)

    const result = reference.forward(plan.config, assemble(plan, vectors, matrices), expected.input, {
      tokenIds: expected.tokenIds,
      routerInput: expected.routerInput,
      sequenceLengths: expected.sequenceLengths,
    })
    expect(result.nonFiniteRows).toHaveLength(0)
    let compared = 0
    for (let token = 0; token < expected.numTokens; token++) {
      if (expected.margins[token]! <= MARGIN) continue
      compared++
      const row = [token * expected.topK, (token + 1) * expected.topK] as const
      expect(Array.from(result.topkIds.slice(...row))).toEqual(expected.topkIds.slice(...row))
    }
    expect(compared).toBe(expected.numTokens)
    expect(relativeError(result.topkWeights, expected.topkWeights)).toBeLessThan(WEIGHT_BOUND)
    expect(relativeError(result.output, expected.output)).toBeLessThan(OUTPUT_BOUND)
  })
})
