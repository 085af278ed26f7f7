/** Tensors of weights in codes: through the stage expertMatmul, back to the host, and what is refused. */

import { describe, expect, it } from 'vitest'
import { QUANTIZED_FORMATS } from '../../lib/block/weights.js'
import {
  type Activation,
  dequantize,
  MoeLayer,
  type QuantizedFormat,
  type QuantizedMatrix,
  stages,
  Tensor,
} from '../../lib/index.js'
import { BOUNDS } from '../cases/index.js'
import { Random } from '../cases/random.js'
import { allDevices } from '../helpers/devices.js'
import { randomQuantized } from '../helpers/quantized-matrices.js'
import { expectClose } from '../helpers/relative-error.js'
import { expectSame } from '../helpers/same.js'

// Rows of an expert are no multiple of fp8's 128 rows: each expert begins blocks of its own.
const [E, N, K, T, TOP_K] = [4, 24, 256, 7, 3]
const hostDevices = allDevices.filter(device => !device.startsWith('cuda'))
const code = (name: string) => expect.objectContaining({ code: name }) as never

it('cpu: matrices that are not decoded all at once', () => {
  // Two of these do not fit the stage's scratch together.
  const [numExperts, rows, cols] = [3, 1 << 16, 160]
  const size = rows * cols
  const data = new Int8Array(numExperts * size)
  const scales = new Float32Array(numExperts * rows)
  const floats = new Float32Array(data.length)
  // 4096 rows that repeat: that many are drawn, the rest is copied.
  const drawn = 4096
  for (let i = 0; i < drawn * cols; i++) {
    const row = Math.floor(i / cols)
    data[i] = (i % 251) - 125
    scales[row] = 2 ** -(row % 7)
    floats[i] = data[i]! * scales[row]!
  }
  for (let row = drawn; row < numExperts * rows; row += drawn) {
    data.copyWithin(row * cols, 0, drawn * cols)
    floats.copyWithin(row * cols, 0, drawn * cols)
    scales.copyWithin(row, 0, drawn)
  }
  const codes: QuantizedMatrix = { format: 'int8', data, scales, scaleType: 'f32', groupSize: cols }
  // Slots in another order than experts, and one without an expert.
  const dispatched = stages.dispatch(Tensor.from(Int32Array.of(2, 0, 1, -1, 0), [5, 1]), numExperts)
  const x = new Random(12).normals(5 * cols)
  const options = { bias: Tensor.from(new Random(13).normals(numExperts * rows), [numExperts, rows]) }
  const rowsOfX = Tensor.from(x, [5, cols])
  const stored = Tensor.from(codes, [numExperts, rows, cols])
  const product = stages.expertMatmul(rowsOfX, stored, dispatched, options).toHost()
  const decoded = Tensor.from(floats, [numExperts, rows, cols])
  expectSame(product, stages.expertMatmul(rowsOfX, decoded, dispatched, options).toHost())
})

/** One set of arrays with the matrices of all experts behind each other. */
function together(matrices: readonly QuantizedMatrix[]): QuantizedMatrix {
  const [first] = matrices
  const joined = (part: 'data' | 'scales' | 'zeros') => {
    if (!first![part]) return {}
    const values = matrices.flatMap(matrix => [...matrix[part]!])
    return { [part]: new (first![part]!.constructor as Uint8ArrayConstructor)(values) }
  }
  return { ...first!, ...joined('data'), ...joined('scales'), ...joined('zeros') }
}

/** Random weights, as codes and decoded one expert after the other; made once. */
const made = new Map<QuantizedFormat, { codes: QuantizedMatrix; floats: Float32Array }>()

function weightsOf(format: QuantizedFormat) {
  const known = made.get(format)
  if (known) return { codes: structuredClone(known.codes), floats: known.floats }
  const random = new Random(2)
  const [first, ...rest] = Array.from({ length: E }, () => randomQuantized(format, N, K, random))
  const { globalScale } = first!
  const matrices = [first!, ...rest].map(matrix => (globalScale ? { ...matrix, globalScale } : matrix))
  const floats = new Float32Array(E * N * K)
  for (const [e, matrix] of matrices.entries()) floats.set(dequantize(matrix, N, K), e * N * K)
  made.set(format, { codes: together(matrices), floats })
  return { codes: together(matrices), floats }
}

/** Expert 2 has no slots, some slots have no expert. */
function inputs(device: string, random: Random, gather: boolean) {
  const ids = Int32Array.from({ length: T * TOP_K }, () => random.integer(E + 1) - 1)
  const topkIds = ids.map(id => (id === 2 ? 3 : id))
  const dispatched = stages.dispatch(Tensor.from(topkIds, [T, TOP_K], { device }), E)
  const rows = gather ? T : T * TOP_K
  const x = Tensor.from(random.normals(rows * K), [rows, K], { device })
  return { x, dispatched }
}

describe.each(hostDevices)('on %s', device => {
  it.each(QUANTIZED_FORMATS)('%s: the product of the decoded weights', format => {
    const random = new Random(3)
    const { codes, floats } = weightsOf(format)
    const stored = Tensor.from(codes, [E, N, K], { device })
    const decoded = Tensor.from(floats, [E, N, K], { device })
    const bias = Tensor.from(random.normals(E * N), [E, N], { device })
    const calls: stages.ExpertMatmulOptions[] = [
      {},
      { gather: true, topK: TOP_K, bias },
      { activation: 'silu' as Activation, gated: true, bias },
      { gather: true, activation: 'gelu' as Activation, gated: true, interleaved: true },
    ]
    for (const options of calls) {
      const { x, dispatched } = inputs(device, random, options.gather === true)
      const product = stages.expertMatmul(x, stored, dispatched, options)
      const expected = stages.expertMatmul(x, decoded, dispatched, options)
      expect(product.shape).toEqual([T * TOP_K, options.gated ? N / 2 : N])
      expectSame(product.toHost(), expected.toHost(), JSON.stringify(options.activation ?? 'none'))
    }
  })

  it.each(QUANTIZED_FORMATS)('%s comes back as it was given', format => {
    const { codes } = weightsOf(format)
    using tensor = Tensor.from(codes, [E, N, K], { device })
    expect(tensor).toMatchObject({ dtype: format, shape: [E, N, K], device, length: E * N * K })
    const copy = structuredClone(codes)
    codes.data.fill(0)
    codes.scales?.fill(0)
    const back = tensor.toHost()
    expect(back).toEqual(copy)
    back.data.fill(0)
    expect(tensor.toHost()).toEqual(copy)
    tensor.dispose()
    expect(tensor.isDisposed).toBe(true)
    expect(() => tensor.toHost()).toThrow(code('ERR_MOE_DISPOSED'))
  })

  it('columns grouped by index are those of all experts', () => {
    const random = new Random(5)
    const groupIndex = Int32Array.from({ length: K }, () => random.integer(K / 32))
    const matrices = Array.from({ length: E }, () => randomQuantized('int4', N, K, random))
    const floats = new Float32Array(E * N * K)
    for (const [e, matrix] of matrices.entries())
      floats.set(dequantize({ ...matrix, groupIndex }, N, K), e * N * K)
    const stored = Tensor.from({ ...together(matrices), groupIndex }, [E, N, K], { device })
    const { x, dispatched } = inputs(device, random, false)
    const product = stages.expertMatmul(x, stored, dispatched).toHost()
    const decoded = Tensor.from(floats, [E, N, K], { device })
    expectSame(product, stages.expertMatmul(x, decoded, dispatched).toHost())
  })

  it('agrees with the reference', () => {
    const { codes } = weightsOf('q4_K')
    const on = (where: string) => {
      const { x, dispatched } = inputs(where, new Random(7), false)
      return stages.expertMatmul(x, Tensor.from(codes, [E, N, K], { device: where }), dispatched).toHost()
    }
    expectClose(on(device), on('reference'), BOUNDS.f32)
  })

  it('no other call takes codes', () => {
    const tensor = Tensor.from(weightsOf('int8').codes, [E, N, K], { device })
    const { x, dispatched } = inputs(device, new Random(9), false)
    const asTensor = tensor as unknown as Tensor
    const wrong = code('ERR_MOE_INVALID_ARG_TYPE')
    expect(() => stages.expertMatmul(x, tensor, { ...dispatched, sortedSlots: asTensor })).toThrow(
      code('ERR_MOE_INVALID_ARG_SHAPE'),
    )
    const flat = Tensor.from(new Float32Array(K), [1, K], { device })
    expect(() => stages.gate(flat, asTensor)).toThrow(code('ERR_MOE_INVALID_ARG_SHAPE'))
    using layer = MoeLayer.create(
      {
        scoringFunc: 'softmax',
        normTopkProb: false,
        numExperts: 1,
        topK: 1,
        hiddenSize: K,
        intermediateSize: 8,
      },
      {
        router: { weight: new Float32Array(K) },
        experts: [
          {
            gate: new Float32Array(8 * K),
            up: new Float32Array(8 * K),
            down: new Float32Array(8 * K),
          },
        ],
      },
      { device, dtype: 'f32' },
    )
    expect(() => layer.forwardSync(asTensor)).toThrow(wrong)
  })

  it.each<[string, string, (matrix: QuantizedMatrix) => unknown, number[]?]>([
    ['two sizes', 'ERR_MOE_INVALID_ARG_SHAPE', matrix => matrix, [N, K]],
    ['a size of 0', 'ERR_MOE_INVALID_ARG_VALUE', matrix => matrix, [E, 0, K]],
    ['more experts than there are', 'ERR_MOE_INVALID_ARG_SHAPE', matrix => matrix, [E + 1, N, K]],
    ['fewer', 'ERR_MOE_INVALID_ARG_SHAPE', matrix => matrix, [1, N, K]],
    ['too few scales', 'ERR_MOE_INVALID_ARG_SHAPE', matrix => ({ ...matrix, scales: new Uint16Array(E) })],
    ['scales that are no array', 'ERR_MOE_INVALID_ARG_TYPE', matrix => ({ ...matrix, scales: [1, 2] })],
    ['data that are missing', 'ERR_MOE_INVALID_ARG_TYPE', ({ data: _, ...matrix }) => matrix],
    ['a format that is none', 'ERR_MOE_INVALID_ARG_VALUE', matrix => ({ ...matrix, format: 'int5' })],
    ['a group size of 0', 'ERR_MOE_INVALID_ARG_VALUE', matrix => ({ ...matrix, groupSize: 0 })],
  ])('refuses %s', (_, name, change, shape = [E, N, K]) => {
    const { codes } = weightsOf('int8')
    expect(() => Tensor.from(change(codes) as QuantizedMatrix, shape, { device })).toThrow(code(name))
  })

  it('refuses a dtype, and buffers that are gone', () => {
    const { codes } = weightsOf('int8')
    expect(() => Tensor.from(codes, [E, N, K], { device, dtype: 'f32' } as never)).toThrow(
      code('ERR_MOE_UNKNOWN_OPTION'),
    )
    structuredClone(codes.scales, { transfer: [codes.scales!.buffer as ArrayBuffer] })
    expect(() => Tensor.from(codes, [E, N, K], { device })).toThrow(code('ERR_MOE_BUFFER_DETACHED'))
  })
})
