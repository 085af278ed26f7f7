/** Weights in stored form through the public interface: codes and scales given, made while loading, and planned for. */

import { describe, expect, it } from 'vitest'
import type { DType } from '../../lib/block/dtype.js'
import { QUANTIZED_FORMATS } from '../../lib/block/weights.js'
import {
  dequantize,
  type ExpertMatrix,
  type ExpertWeights,
  type LayerOptions,
  MoeLayer,
  type MoeWeights,
  plan,
  type QuantizedMatrix,
  quantize,
} from '../../lib/index.js'
import { BOUNDS } from '../cases/index.js'
import { Random } from '../cases/random.js'
import { allDevices, nativeDevices } from '../helpers/devices.js'
import { randomQuantized } from '../helpers/quantized-matrices.js'
import { expectClose, relativeError } from '../helpers/relative-error.js'
import { expectSame } from '../helpers/same.js'

const [H, I, E, T] = [256, 256, 3, 5]
const config = {
  scoringFunc: 'softmax',
  normTopkProb: true,
  numExperts: E,
  topK: 2,
  hiddenSize: H,
  intermediateSize: I,
  numSharedExperts: 1,
  sharedIntermediateSize: I,
} as const

/** A layer whose matrices `of` makes. */
function weightsOf(random: Random, of: (rows: number, cols: number) => ExpertMatrix): MoeWeights {
  const mlp = (): ExpertWeights => ({ gate: of(I, H), up: of(I, H), down: of(H, I) })
  return {
    router: { weight: random.normals(E * H, 2 * H ** -0.5) },
    experts: Array.from({ length: E }, mlp),
    shared: mlp(),
  }
}

/** The same with every matrix replaced. */
function mapped(
  weights: MoeWeights,
  change: (matrix: ExpertMatrix, rows: number, cols: number) => ExpertMatrix,
): MoeWeights {
  const mlp = ({ gate, up, down }: ExpertWeights): ExpertWeights => ({
    gate: change(gate!, I, H),
    up: change(up, I, H),
    down: change(down, H, I),
  })
  return { ...weights, experts: weights.experts.map(mlp), shared: mlp(weights.shared!) }
}

const decoded = (weights: MoeWeights) =>
  mapped(weights, (matrix, rows, cols) => dequantize(matrix as QuantizedMatrix, rows, cols))

function run(weights: MoeWeights, hidden: Float32Array, options: LayerOptions) {
  using layer = MoeLayer.create(config, weights, options)
  const { output, work } = layer.forwardSync(hidden)
  return { output, work, format: layer.weightFormat, explained: layer.explain(T) }
}

const hiddenOf = (random: Random) => random.normals(T * H, 1)

interface StoredCase {
  weights: MoeWeights
  hidden: Float32Array
  /** Of the decoded weights, in double precision. */
  expected: Float32Array
}

/** Made once for all devices, because the oracle takes longer than any of them. */
function storedCases<Key extends string[]>(make: (...key: Key) => Omit<StoredCase, 'expected'>) {
  const made = new Map<string, StoredCase>()
  return (...key: Key): StoredCase => {
    const name = key.join(' ')
    let known = made.get(name)
    if (!known) {
      const { weights, hidden } = make(...key)
      const expected = run(decoded(weights), hidden, { device: 'reference', dtype: 'f32' })
        .output as Float32Array
      known = { weights, hidden, expected }
      made.set(name, known)
    }
    return known
  }
}

const caseOf = storedCases((format: (typeof QUANTIZED_FORMATS)[number]) => {
  const random = new Random(7)
  const weights = weightsOf(random, (rows, cols) => randomQuantized(format, rows, cols, random))
  return { weights, hidden: hiddenOf(random) }
})

describe.each(allDevices)('on %s', device => {
  it.each(QUANTIZED_FORMATS)('%s gives the numbers of its decoded weights', format => {
    const { weights, hidden, expected } = caseOf(format)
    for (const dtype of ['f32', 'f16', 'bf16'] as const) {
      const { output } = run(weights, hidden, { device, dtype })
      expectClose(output, expected, BOUNDS[dtype], dtype)
    }
  })

  it('holds what it says, expert by expert', () => {
    const random = new Random(8)
    const plain = weightsOf(random, (rows, cols) => random.normals(rows * cols, cols ** -0.5))
    // Another form in each expert, and in one of its matrices.
    const experts = plain.experts.map((expert, e) => ({
      ...expert,
      down: e === 0 ? expert.down : quantize(expert.down as Float32Array, H, I, e === 1 ? 'int8' : 'int4'),
    }))
    const hidden = hiddenOf(random)
    const mixed = run({ ...plain, experts }, hidden, { device, dtype: 'f32' })
    const floats = { ...plain, experts: experts.map(expert => ({ ...expert, down: asFloats(expert.down) })) }
    const expected = run(floats, hidden, { device: 'reference', dtype: 'f32' })
    expectClose(mixed.output, expected.output, BOUNDS.f32)
    expect(mixed.explained.residentBytes).toBe(mixed.work.denseWeightBytes)
    expect([mixed.format.down].flat().map(({ stored }) => stored)).toEqual(['f32', 'int8 g32', 'int4 g32'])
    if (device !== 'cpu') return
    const held = { gate: [mixed.format.gate].flat(), down: [mixed.format.down].flat() }
    expect(held.gate.map(format => format!.held)).toEqual(['f32'])
    expect(held.down.map(({ stored, held }) => `${stored} ${held}`)).toEqual([
      'f32 f32',
      'int8 g32 i8',
      'int4 g32 u4',
    ])
    expect(held.down.map(({ bitsPerWeight }) => bitsPerWeight)).toEqual([32, 8.5, 4.5])
    // The bytes of the experts that were hit, each with what it holds.
    const bytes = [0, 1, 2].map(e => I * H * (8 + held.down[e]!.bitsPerWeight / 8))
    const hit = bytes.filter((_, e) => mixed.work.expertTokens[e]! > 0).reduce((a, b) => a + b, 0)
    expect(mixed.work.weightBytes).toBe(hit + 3 * 4 * I * H + 4 * E * H)
  })
})

/** What `groupIndex` of a matrix of 32 columns to a group may say. */
const GROUPINGS = {
  'in order': (_: Random, cols: number) => Int32Array.from({ length: cols }, (_, col) => col >> 5),
  'never set': (_: Random, cols: number) => new Int32Array(cols).fill(-1),
  'in an order of their own': (random: Random, cols: number) => {
    const groups = Int32Array.from({ length: cols }, (_, col) => col >> 5)
    for (let last = cols - 1; last > 0; last--) {
      const other = random.integer(last + 1)
      ;[groups[last], groups[other]] = [groups[other]!, groups[last]!]
    }
    return groups
  },
  'of different sizes': (random: Random, cols: number) =>
    Int32Array.from({ length: cols }, () => random.integer(cols >> 5)),
}

const groupedCase = storedCases((name: keyof typeof GROUPINGS, format: 'int8' | 'int4') => {
  const random = new Random(13)
  const groupIndex = GROUPINGS[name]
  // Gate and up of an expert read the same rows; most often they have one order, here some do.
  const [shared, own] = [groupIndex(random, H), groupIndex(random, H)]
  let count = 0
  const weights = weightsOf(random, (rows, cols) => ({
    ...randomQuantized(format, rows, cols, random),
    groupIndex: cols === I ? groupIndex(random, I) : count++ % 3 === 0 ? own : shared,
  }))
  return { weights, hidden: hiddenOf(random) }
})

describe.each(allDevices)('columns grouped by index on %s', device => {
  it.each(
    (Object.keys(GROUPINGS) as (keyof typeof GROUPINGS)[]).flatMap(name =>
      (['int8', 'int4'] as const).map(format => [name, format] as const),
    ),
  )('%s, %s', (name, format) => {
    const { weights, hidden, expected } = groupedCase(name, format)
    for (const dtype of ['f32', 'bf16'] as const) {
      const { output, format: held, explained } = run(weights, hidden, { device, dtype })
      expectClose(output, expected, BOUNDS[dtype], dtype)
      if (device !== 'cpu') continue
      expect(plan(config, T, device, { dtype, weights: held })).toEqual(explained)
      const isHeld = name !== 'of different sizes'
      const code = isHeld ? (format === 'int8' ? 'i8' : 'u4') : dtype
      for (const matrix of [held.gate, held.up, held.down].flat()) expect(matrix!.held).toBe(code)
      // Codes, an f16 scale and a zero point for 32 columns, and four bytes a column for their order.
      const order = name === 'in an order of their own' ? 32 / I : 0
      const zeros = format === 'int4' ? 8 / 32 : 0
      const bits = (format === 'int8' ? 8 : 4) + 16 / 32 + zeros + order
      if (isHeld) expect([held.up].flat()[0]!.bitsPerWeight).toBeCloseTo(bits, 10)
    }
    if (device !== 'cpu' || name !== 'of different sizes') return
    expect(() => run(weights, hidden, { device, weights: 'stored' })).toThrow(
      expect.objectContaining({
        code: 'ERR_MOE_UNSUPPORTED_FORMAT',
        message: expect.stringContaining('different numbers of columns'),
      }),
    )
  })
})

const asFloats = (matrix: ExpertMatrix): ExpertMatrix =>
  'format' in matrix ? dequantize(matrix as QuantizedMatrix, H, I) : matrix

/** In which arithmetic a device multiplies by codes. */
const dtypesOfCodes = (device: string): readonly DType[] =>
  device === 'cpu' ? ['f32', 'bf16'] : ['bf16', 'f16']

describe.each(nativeDevices)('quantising while loading on %s', device => {
  it.each(['int8', 'int4'] as const)('%s is what quantize makes', format => {
    const random = new Random(9)
    const weights = weightsOf(random, (rows, cols) => random.normals(rows * cols, cols ** -0.5))
    const hidden = hiddenOf(random)
    for (const dtype of dtypesOfCodes(device)) {
      const made = run(weights, hidden, { device, dtype, weights: format })
      const given = run(
        mapped(weights, (matrix, rows, cols) => quantize(matrix as Float32Array, rows, cols, format)),
        hidden,
        { device, dtype },
      )
      expectSame(made.output, given.output, dtype)
      expect([made.format.up].flat()[0]).toMatchObject({
        stored: 'f32',
        held: format === 'int8' ? 'i8' : 'u4',
      })
    }
    // The documented loss on normal weights.
    const exact = run(weights, hidden, { device: 'reference', dtype: 'f32' })
    const lossy = run(weights, hidden, { device, dtype: dtypesOfCodes(device)[0], weights: format })
    const loss = relativeError(lossy.output, exact.output)
    expect(loss).toBeLessThan(format === 'int8' ? 1.2e-2 : 2e-1)
    expect(loss).toBeGreaterThan(1e-3)
  })

  it('the reference quantises to the same weights', () => {
    const random = new Random(10)
    const weights = weightsOf(random, (rows, cols) => random.normals(rows * cols, cols ** -0.5))
    const hidden = hiddenOf(random)
    for (const format of ['int8', 'int4'] as const) {
      const dtype = dtypesOfCodes(device)[0]!
      const options = { dtype, weights: format } as const
      const native = run(weights, hidden, { ...options, device })
      const exact = run(weights, hidden, { ...options, device: 'reference' })
      expectClose(native.output, exact.output, BOUNDS[dtype])
    }
  })

  it('plans what a layer holds', () => {
    const random = new Random(11)
    for (const form of ['int4', 'int8', 'fp8', 'mxfp4', 'nvfp4', 'q4_K', 'q6_K'] as const) {
      const weights = weightsOf(random, (rows, cols) => randomQuantized(form, rows, cols, random))
      // Our int4 has no zero points unless they are given.
      const plain = mapped(weights, matrix => {
        const { zeros: _, ...rest } = matrix as QuantizedMatrix
        return rest
      })
      const { explained, format } = run(plain, hiddenOf(random), { device, dtype: 'bf16' })
      expect(plan(config, T, device, { dtype: 'bf16', weights: form }), form).toEqual(explained)
      expect(plan(config, T, device, { dtype: 'bf16', weights: format }), form).toEqual(explained)
    }
    expect(() => plan(config, T, device, { weights: 'q9_9' as never })).toThrow(
      expect.objectContaining({ code: 'ERR_MOE_INVALID_ARG_VALUE' }),
    )
  })
})

describe('quantize', () => {
  it('rounds to the nearest code of a block, and keeps what is no number', () => {
    const values = new Float32Array(64)
    values.set([1, -0.5, 0.25, 0], 0)
    values[40] = Number.NaN
    const int8 = dequantize(quantize(values, 1, 64, 'int8'), 1, 64)
    expect([...int8.subarray(0, 4)].map(value => Math.round(value * 127))).toEqual([127, -64, 32, 0])
    expect(int8.subarray(32).every(Number.isNaN)).toBe(true)
    const int4 = dequantize(quantize(values, 1, 64, 'int4'), 1, 64)
    expect([...int4.subarray(0, 4)].map(value => value + 0)).toEqual([1, -0.5, 0.25, 0])
    expect(int4.subarray(32).every(Number.isNaN)).toBe(true)
  })

  it.each(['int8', 'int4'] as const)('%s of columns that fill no block', format => {
    const random = new Random(12)
    const [rows, cols] = [3, 45]
    const values = random.normals(rows * cols, 1)
    const back = dequantize(quantize(values, rows, cols, format), rows, cols)
    expect(relativeError(back, values)).toBeLessThan(format === 'int8' ? 0.01 : 0.12)
  })

  it.each([
    ['scales', { scales: new Uint16Array(3) }],
    ['data', { data: new Uint8Array(5) }],
    ['scaleType', { scaleType: 'e8m0' }],
    ['zeros', { zeros: new Uint8Array(5) }],
    ['groupSize', { groupSize: 0 }],
    ['globalScale', { globalScale: 2 }],
    ['format', { format: 'int3' }],
  ])('a matrix whose %s does not fit is refused by its name', (name, change) => {
    const matrix = { ...quantize(new Float32Array(64), 2, 32, 'int8'), ...change }
    expect(() => dequantize(matrix as QuantizedMatrix, 2, 32)).toThrow(
      expect.objectContaining({
        code: expect.stringMatching(/^ERR_MOE_INVALID_ARG_/),
        message: expect.stringContaining(`matrix.${name}`),
      }),
    )
  })
})
