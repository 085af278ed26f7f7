/** `activations: 'int8'` through the public interface: what it computes, what it costs, what it refuses. */

import { describe, expect, it } from 'vitest'
import { resolveConfig } from '../../lib/block/resolve.js'
import { type FloatWeights, QUANTIZED_FORMATS } from '../../lib/block/weights.js'
import {
  type DeviceOption,
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
import { BOUNDS, INT8_ACTIVATIONS_BOUND } from '../cases/index.js'
import { Random } from '../cases/random.js'
import { allDevices } from '../helpers/devices.js'
import { type ColumnOrder, int8Rows } from '../helpers/int8-rows.js'
import { randomQuantized } from '../helpers/quantized-matrices.js'
import { expectClose, relativeError } from '../helpers/relative-error.js'
import { expectSame } from '../helpers/same.js'

const [H, I, E, T] = [256, 256, 3, 24]
const config = {
  scoringFunc: 'softmax',
  normTopkProb: true,
  numExperts: E,
  topK: 1,
  hiddenSize: H,
  intermediateSize: I,
  numSharedExperts: 1,
  sharedIntermediateSize: I,
} as const

type Name = 'gate' | 'up' | 'down'
type Place = readonly [Name, number | 'shared']

function weightsOf(
  random: Random,
  of: (rows: number, cols: number, ...place: Place) => ExpertMatrix,
): MoeWeights {
  const mlp = (expert: number | 'shared'): ExpertWeights => ({
    gate: of(I, H, 'gate', expert),
    up: of(I, H, 'up', expert),
    down: of(H, I, 'down', expert),
  })
  return {
    router: { weight: random.normals(E * H, 2 * H ** -0.5) },
    experts: Array.from({ length: E }, (_, e) => mlp(e)),
    shared: mlp('shared'),
  }
}

const isCoded = (matrix: ExpertMatrix): matrix is QuantizedMatrix => 'format' in matrix
const valuesOf = (matrix: ExpertMatrix, rows: number, cols: number): ExpertMatrix =>
  isCoded(matrix) ? dequantize(matrix, rows, cols) : matrix

function decoded(weights: MoeWeights): FloatWeights {
  const mlp = ({ gate, up, down }: ExpertWeights): ExpertWeights => ({
    gate: valuesOf(gate!, I, H),
    up: valuesOf(up, I, H),
    down: valuesOf(down, H, I),
  })
  return { ...weights, experts: weights.experts.map(mlp), shared: mlp(weights.shared!) } as FloatWeights
}

/** Columns by group, those of a group as they stand. */
const orderOf = (groupIndex: Int32Array): number[] =>
  Array.from({ length: Math.max(...groupIndex) + 1 }, (_, group) =>
    [...groupIndex.keys()].filter(col => groupIndex[col] === group),
  ).flat()

const mlpOf = (weights: MoeWeights, expert: number | 'shared'): ExpertWeights =>
  expert === 'shared' ? weights.shared! : weights.experts[expert]!

const rowsOf = <A extends Float32Array | Float64Array>(array: A, rows: readonly number[]) =>
  rows.flatMap(row => [...array.subarray(row * H, (row + 1) * H)])

const make = (weights: MoeWeights, options: LayerOptions) =>
  MoeLayer.create(config, weights, { dtype: 'f32', activations: 'int8', ...options })

/** The layer's rows are those of codes, in double precision; rows that f32 may round to other codes stay near them. */
function expectCodes(
  device: DeviceOption,
  weights: MoeWeights,
  hidden: Float32Array,
  orders?: (...place: Place) => ColumnOrder,
  options: LayerOptions = {},
): void {
  using layer = make(weights, { device, ...options })
  const { output, topkIds, topkWeights } = layer.forwardSync(hidden)
  const isOfCodes = (...[matrix, expert]: Place): ColumnOrder =>
    isCoded(mlpOf(weights, expert)[matrix]!) ? null : undefined
  const rows = { hidden, topkIds, topkWeights }
  const expected = int8Rows(resolveConfig(config), decoded(weights), rows, orders ?? isOfCodes)
  expect(expected.clear.length).toBeGreaterThan(T / 8)
  expectClose(rowsOf(output, expected.clear), rowsOf(expected.output, expected.clear), BOUNDS.f32)
  expectClose(output, expected.output, INT8_ACTIVATIONS_BOUND)
}

const hasInt8 = (device: string) => device === 'cpu' || device === 'reference'
const CODES = QUANTIZED_FORMATS.filter(format => format !== 'fp8')

describe.each(allDevices.filter(hasInt8) as DeviceOption[])('on %s', device => {
  it.each(CODES)('%s is multiplied by codes of the rows', format => {
    const random = new Random(31)
    const weights = weightsOf(random, (rows, cols) => randomQuantized(format, rows, cols, random))
    expectCodes(device, weights, random.normals(T * H, 1))
  })

  it('blocks are of columns as the matrix stores them', () => {
    const random = new Random(32)
    const groups = () => {
      const index = Int32Array.from({ length: H }, (_, col) => col >> 5)
      for (let last = H - 1; last > 0; last--) {
        const other = random.integer(last + 1)
        ;[index[last], index[other]] = [index[other]!, index[last]!]
      }
      return index
    }
    // Gate and up in one order, in two, and one of them as it stands.
    const shared = groups()
    const weights = weightsOf(random, (rows, cols, matrix, expert) => ({
      ...randomQuantized(expert === 1 && matrix === 'up' ? 'int8' : 'int4', rows, cols, random),
      ...(expert === 2 && matrix === 'gate'
        ? {}
        : { groupIndex: expert === 0 || matrix === 'gate' ? shared : groups() }),
    }))
    const orders = (...[matrix, expert]: Place) => {
      const { groupIndex } = mlpOf(weights, expert)[matrix] as QuantizedMatrix
      return groupIndex ? orderOf(groupIndex) : null
    }
    expectCodes(device, weights, random.normals(T * H, 1), orders)
  })

  it('floats and fp8 beside codes are multiplied as they are, and explain says so', () => {
    const random = new Random(33)
    const weights = weightsOf(random, (rows, cols, matrix, expert) =>
      matrix === 'gate'
        ? random.normals(rows * cols, cols ** -0.5)
        : matrix === 'down' && expert === 1
          ? randomQuantized('fp8', rows, cols, random)
          : randomQuantized('q4_K', rows, cols, random),
    )
    const orders = (...[matrix, expert]: Place) =>
      matrix === 'gate' || (matrix === 'down' && expert === 1) ? undefined : null
    expectCodes(device, weights, random.normals(T * H, 1), orders)
    if (device !== 'cpu') return
    using layer = make(weights, { device })
    const kernelOf = (stage: string) => layer.explain(T).stages.find(row => row.stage === stage)!.kernel
    expect(kernelOf('gateUp')).toContain('int8 activations, int32 dot')
    expect(kernelOf('gateUp')).toContain('(gate: widened, f32 FMA)')
    expect(kernelOf('down')).toContain('mixed, int8 activations in part')
  })

  it.each(['int8', 'int4'] as const)('weights that become %s take codes', format => {
    const random = new Random(34)
    const floats = weightsOf(random, (rows, cols) => random.normals(rows * cols, cols ** -0.5))
    const codes = weightsOf(new Random(0), (rows, cols, matrix, expert) =>
      quantize(mlpOf(floats, expert)[matrix] as Float32Array, rows, cols, format),
    )
    const weights = { ...codes, router: floats.router }
    const hidden = random.normals(T * H, 1)
    expectCodes(device, weights, hidden)
    using made = make(floats, { device, weights: format })
    using given = make(weights, { device })
    expectSame(made.forwardSync(hidden).output, given.forwardSync(hidden).output)
  })

  it('loses little, on normal rows and on rows with a few large channels', () => {
    const random = new Random(35)
    const weights = weightsOf(random, (rows, cols) =>
      quantize(random.normals(rows * cols, cols ** -0.5), rows, cols, 'int4'),
    )
    const normal = random.normals(T * H, 1)
    const spiked = normal.map((value, i) => ([17, 93, 180].includes(i % H) ? 20 * value : value))
    for (const hidden of [normal, spiked]) {
      using exact = MoeLayer.create(config, weights, { device: 'reference', dtype: 'f32' })
      using layer = make(weights, { device })
      const { output, topkIds, topkWeights } = layer.forwardSync(hidden)
      const expected = exact.forwardSync(hidden, { routing: { topkIds, topkWeights } }).output
      const loss = relativeError(output, expected)
      expect(loss).toBeLessThan(INT8_ACTIVATIONS_BOUND)
      expect(loss).toBeGreaterThan(1e-3)
    }
  })

  it('the dtype of the layer changes nothing where all matrices are codes, and 16-bit rows are read as they are', () => {
    const random = new Random(36)
    const weights = weightsOf(random, (rows, cols) => randomQuantized('q4_0', rows, cols, random))
    expectCodes(device, weights, random.normals(T * H, 1), undefined, { dtype: 'bf16' })
    const bf16 = Uint16Array.from({ length: T * H }, () => 0x3f00 + random.integer(0x200))
    const wide = Float32Array.from(bf16, bits => new Float32Array(Uint32Array.of(bits << 16).buffer)[0]!)
    using layer = make(weights, { device, dtype: 'bf16' })
    const narrow = layer.forwardSync(bf16).output
    const exact = layer.forwardSync(wide).output
    for (const [i, bits] of narrow.entries())
      expect(
        Math.abs(new Float32Array(Uint32Array.of(bits << 16).buffer)[0]! - exact[i]!),
      ).toBeLessThanOrEqual(Math.abs(exact[i]!) * 2 ** -8)
  })

  it('a row alone, and any number of threads, give the bits of the batch', async () => {
    const random = new Random(37)
    const weights = weightsOf(random, (rows, cols) => randomQuantized('q6_K', rows, cols, random))
    const hidden = random.normals(T * H, 1)
    using layer = make(weights, { device })
    const whole = (await layer.forward(hidden)).output
    for (const row of [0, 7, T - 1]) {
      const alone = layer.forwardSync(hidden.slice(row * H, (row + 1) * H)).output
      expectSame(alone, whole.slice(row * H, (row + 1) * H))
    }
    using single = make(weights, { device, threads: 1 })
    expectSame(single.forwardSync(hidden).output, whole)
  })

  it('keeps values that are not finite in their row', () => {
    const random = new Random(38)
    const weights = weightsOf(random, (rows, cols) => randomQuantized('int4', rows, cols, random))
    const hidden = random.normals(T * H, 1)
    const ids = new Int32Array(T)
    const routing = { topkIds: ids, topkWeights: new Float32Array(T).fill(1) }
    hidden[3 * H + 5] = Number.NaN
    hidden[6 * H + 200] = Number.POSITIVE_INFINITY
    using layer = make(weights, { device })
    const { output, nonFiniteRows } = layer.forwardSync(hidden, { routing })
    expect([...nonFiniteRows]).toEqual([3, 6])
    expect(rowsOf(output, [3, 6]).some(Number.isFinite)).toBe(false)
  })

  it('is named by the layer, explained and planned', () => {
    const random = new Random(39)
    const weights = weightsOf(random, (rows, cols) => randomQuantized('q4_K', rows, cols, random))
    using layer = make(weights, { device, dtype: 'bf16' })
    using exact = MoeLayer.create(config, weights, { device, dtype: 'bf16' })
    expect([layer.activations, exact.activations]).toEqual(['int8', 'exact'])
    const explained = layer.explain(T)
    expect([explained.activations, exact.explain(T).activations]).toEqual(['int8', 'exact'])
    for (const stage of ['gateUp', 'down'])
      expect(explained.stages.find(row => row.stage === stage)!.kernel).toContain('int8 activations')
    expect(exact.explain(T).stages.some(({ kernel }) => kernel.includes('int8 activations'))).toBe(false)
    const options = { dtype: 'bf16', activations: 'int8', weights: layer.weightFormat } as const
    expect(plan(config, T, device, options)).toEqual(explained)
    expect(explained.workspaceBytes).toBeGreaterThan(0)
    if (device === 'cpu') {
      expect(plan(config, T, device, { ...options, weights: 'q4_K' })).toEqual(explained)
    }
  })

  it('is refused where no matrix is held as integers, with the next step', () => {
    const random = new Random(40)
    const floats = weightsOf(random, (rows, cols) => random.normals(rows * cols, cols ** -0.5))
    const fp8 = weightsOf(random, (rows, cols) => randomQuantized('fp8', rows, cols, random))
    const int4 = weightsOf(random, (rows, cols) => randomQuantized('int4', rows, cols, random))
    const refusal = expect.objectContaining({
      code: 'ERR_MOE_UNSUPPORTED_FORMAT',
      message: expect.stringContaining("ask for weights 'int8' or 'int4', or for activations 'exact'"),
    })
    expect(() => make(floats, { device })).toThrow(refusal)
    expect(() => make(fp8, { device })).toThrow(refusal)
    expect(() => make(int4, { device, weights: 'expand' })).toThrow(refusal)
    for (const weights of [undefined, 'bf16', 'fp8'] as const)
      expect(() => plan(config, T, device, { activations: 'int8', weights })).toThrow(refusal)
  })

  it('another value is refused', () => {
    const weights = weightsOf(new Random(41), (rows, cols) => new Float32Array(rows * cols))
    for (const activations of ['int4', 'bf16', true, null, 8] as never[]) {
      const refusal = expect.objectContaining({ code: 'ERR_MOE_INVALID_ARG_VALUE' })
      expect(() => make(weights, { device, activations })).toThrow(refusal)
      expect(() => plan(config, T, device, { activations })).toThrow(refusal)
    }
  })
})

describe.each(allDevices.filter(device => !hasInt8(device)) as DeviceOption[])('on %s', device => {
  it('is refused with the next step', () => {
    const random = new Random(42)
    const weights = weightsOf(random, (rows, cols) => randomQuantized('q4_K', rows, cols, random))
    const refusal = expect.objectContaining({
      code: 'ERR_MOE_UNSUPPORTED_FORMAT',
      message: expect.stringContaining("ask for activations 'exact', or for device 'cpu'"),
    })
    expect(() => make(weights, { device })).toThrow(refusal)
    expect(() => plan(config, T, device, { activations: 'int8', weights: 'q4_K' })).toThrow(refusal)
  })
})
