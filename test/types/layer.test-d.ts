import { expectTypeOf, test } from 'vitest'
import {
  type DeviceOption,
  type DType,
  devices,
  type ForwardOptions,
  type ForwardResult,
  MoeError,
  type MoeErrorCode,
  MoeLayer,
  type MoeWeights,
  plan,
  type QuantizedMatrix,
  type QuantizedTensor,
  quantize,
  stages,
  Tensor,
  type TensorData,
  type Work,
} from '../../lib/index.js'

declare const layer: MoeLayer

test('load takes a directory and typed options', () => {
  expectTypeOf(MoeLayer.load).returns.resolves.toEqualTypeOf<MoeLayer>()
  expectTypeOf(MoeLayer.load).parameter(0).toEqualTypeOf<string>()
  const load = MoeLayer.load
  void (() =>
    load('directory', {
      layer: 3,
      device: 'cuda:1',
      dtype: 'bf16',
      batchInvariant: true,
      activations: 'int8',
      signal: AbortSignal.timeout(1),
    }))
  void (() => load('directory', { onProgress: ({ loadedBytes, totalBytes }) => loadedBytes / totalBytes }))
  // @ts-expect-error: a string
  void (() => load('directory', { device: 0 }))
  // @ts-expect-error: a boolean
  void (() => load('directory', { batchInvariant: 1 }))
  // @ts-expect-error: not one of them
  void (() => load('directory', { activations: 'int4' }))
  expectTypeOf(layer.activations).toEqualTypeOf<'exact' | 'int8'>()
  // @ts-expect-error: not a dtype of the arithmetic
  void (() => load('directory', { dtype: 'fp8' }))
  // @ts-expect-error: not an option
  void (() => load('directory', { layers: 3 }))
  // @ts-expect-error: a directory is needed
  void (() => load())
})

test('device is any string, because backends are known at run time; dtype is a closed union', () => {
  expectTypeOf<'auto' | 'cuda' | `cuda:${number}` | 'cpu' | 'reference'>().toExtend<DeviceOption>()
  expectTypeOf<string>().toExtend<DeviceOption>()
  expectTypeOf<DType>().toEqualTypeOf<'f32' | 'f16' | 'bf16'>()
})

test('a layer is made by its factories only', () => {
  // @ts-expect-error: private constructor
  void (() => new MoeLayer())
})

test('the output has the type of the input', () => {
  expectTypeOf(layer.forward(new Float32Array(4)))
    .resolves.toHaveProperty('output')
    .toExtend<Float32Array>()
  expectTypeOf(layer.forward(new Uint16Array(4)))
    .resolves.toHaveProperty('output')
    .toExtend<Uint16Array>()
  const tensor = Tensor.from(new Float32Array(4), [1, 4])
  expectTypeOf(layer.forward(tensor)).resolves.toHaveProperty('output').toEqualTypeOf<Tensor>()
  expectTypeOf(layer.forwardSync(tensor).output).toEqualTypeOf<Tensor>()
  const codes = Tensor.from(quantize(new Float32Array(4), 1, 4, 'int8'), [1, 1, 4])
  expectTypeOf(codes).toEqualTypeOf<QuantizedTensor>()
  expectTypeOf(codes.toHost()).toEqualTypeOf<QuantizedMatrix>()
  expectTypeOf(tensor.toHost()).toEqualTypeOf<TensorData>()
  // @ts-expect-error: codes are weights, and no hidden states
  void (() => layer.forwardSync(codes))
  // @ts-expect-error: 64-bit floats are no hidden states
  void (() => layer.forward(new Float64Array(4)))
  // @ts-expect-error: nor are plain arrays
  void (() => layer.forward([1, 2, 3, 4]))
})

test('a result carries the routing and the work', () => {
  type Result = ForwardResult<Float32Array>
  expectTypeOf<Result['numTokens']>().toBeNumber()
  expectTypeOf<Result['topkIds']>().toEqualTypeOf<Int32Array>()
  expectTypeOf<Result['topkWeights']>().toEqualTypeOf<Float32Array>()
  expectTypeOf<Result['nonFiniteRows']>().toEqualTypeOf<Int32Array>()
  expectTypeOf<Result['work']>().toEqualTypeOf<Work>()
  expectTypeOf<Work>().toHaveProperty('flops').toBeNumber()
  expectTypeOf<Work>().toHaveProperty('denseFlops').toBeNumber()
  expectTypeOf<Work>().toHaveProperty('weightBytes').toBeNumber()
  expectTypeOf<Work>().toHaveProperty('denseWeightBytes').toBeNumber()
})

test('the options of a call', () => {
  expectTypeOf<ForwardOptions['topK']>().toEqualTypeOf<number | Uint8Array | undefined>()
  expectTypeOf<ForwardOptions['topP']>().toEqualTypeOf<number | Float32Array | undefined>()
  expectTypeOf<ForwardOptions['signal']>().toEqualTypeOf<AbortSignal | undefined>()
  // A recorded result replays as it is.
  const replay = (recorded: ForwardResult<Float32Array>) =>
    layer.forward(new Float32Array(4), { routing: recorded, tokenIds: new Int32Array(1) })
  void replay
  // @ts-expect-error: half a routing
  void (() => layer.forward(new Float32Array(4), { routing: { topkIds: new Int32Array(2) } }))
  // @ts-expect-error: a synchronous call cannot be aborted
  void (() => layer.forwardSync(new Float32Array(4), { signal: AbortSignal.abort() }))
})

test('a layer is read-only and disposable', () => {
  expectTypeOf(layer).toExtend<Disposable>()
  expectTypeOf(layer).toExtend<AsyncDisposable>()
  expectTypeOf(layer.isDisposed).toBeBoolean()
  // @ts-expect-error: read-only
  layer.device = 'cpu'
  // @ts-expect-error: frozen
  layer.config.topK = 1
})

test('using and await using release a layer', async () => {
  const scoped = async (directory: string): Promise<number> => {
    await using loaded = await MoeLayer.load(directory)
    using tensor = Tensor.from(new Float32Array(loaded.config.hiddenSize), [1, loaded.config.hiddenSize])
    return (await loaded.forward(tensor)).numTokens
  }
  expectTypeOf(scoped).returns.resolves.toBeNumber()
})

test('weights name what a family needs', () => {
  const matrix = new Float32Array(4)
  const weights: MoeWeights = { router: { weight: matrix }, experts: [{ up: matrix, down: matrix }] }
  const transposed: MoeWeights = {
    router: { weight: { data: matrix, strides: [1, 2] } },
    experts: [{ up: matrix, down: matrix }],
  }
  void [weights, transposed]
  // @ts-expect-error: every expert has a way down
  const incomplete: MoeWeights = { router: { weight: matrix }, experts: [{ up: matrix }] }
  void incomplete
})

test('errors have a code from one table', () => {
  expectTypeOf<MoeError>().toExtend<Error>()
  expectTypeOf<MoeError['code']>().toEqualTypeOf<MoeErrorCode>()
  expectTypeOf<'ERR_MOE_NOT_SPARSE'>().toExtend<MoeErrorCode>()
  // @ts-expect-error: not in the table
  void (() => new MoeError('ERR_MOE_OOPS', 'oops'))
})

test('stages work on tensors and compose', () => {
  const block = (hidden: Tensor, routerWeight: Tensor, gateUp: Tensor, down: Tensor): Tensor => {
    const logits = stages.gate(hidden, routerWeight)
    const { topkIds, topkWeights } = stages.selectExperts(logits, {
      numExperts: 8,
      topK: 2,
      scoringFunc: 'topk_softmax',
    })
    const dispatched = stages.dispatch(topkIds, 8)
    const inner = stages.expertMatmul(hidden, gateUp, dispatched, {
      gather: true,
      gated: true,
      activation: 'silu',
    })
    return stages.combine(stages.expertMatmul(inner, down, dispatched), dispatched, topkWeights)
  }
  expectTypeOf(block).returns.toEqualTypeOf<Tensor>()
  // @ts-expect-error: a stage takes tensors, not arrays
  void (() => stages.gate(new Float32Array(4), new Float32Array(4)))
})

test('devices and plan need no layer', () => {
  expectTypeOf(devices()[0]!.available).toBeBoolean()
  expectTypeOf(plan).parameter(1).toBeNumber()
})
