/** Device tensors through stages and layers: results, copies, leases and lifetimes. */

import { setTimeout as sleep } from 'node:timers/promises'
import { describe, expect, it } from 'vitest'
import { QUANTIZED_FORMATS } from '../../lib/block/weights.js'
import { loadNative } from '../../lib/devices/native/addon.js'
import {
  type DeviceOption,
  fromFloat32,
  MoeLayer,
  stages,
  Tensor,
  type TensorData,
  type TensorDType,
} from '../../lib/index.js'
import { BOUNDS, FAMILY_CASES, WEIGHT_BOUND } from '../cases/index.js'
import { makeLayerData } from '../cases/layer-data.js'
import { Random } from '../cases/random.js'
import { counted, counters, describeCuda, settledDeviceBytes } from '../helpers/cuda.js'
import { runStages } from '../helpers/cuda-stages.js'
import { randomQuantized } from '../helpers/quantized-matrices.js'
import { expectClose } from '../helpers/relative-error.js'
import { slowCase, tinyCase, tinyLayer } from '../helpers/tiny-layer.js'

const code = (name: string) => expect.objectContaining({ code: name }) as never

/** What a stage may bring back to say that ids, offsets and slots are in order. */
const VERDICT_BYTES = 64

describeCuda('tensors', device => {
  it.each<[TensorDType, TensorData, number[]]>([
    ['f32', Float32Array.of(1.5, -2, Number.NaN, 3, 0, 7), [2, 3]],
    ['bf16', Uint16Array.of(1, 2, 0xffff), [3]],
    ['f16', Uint16Array.of(9, 8, 7, 6), [1, 2, 2, 1]],
    ['i32', Int32Array.of(-1, 2 ** 31 - 1), [2]],
    ['f32', new Float32Array(0), [0, 5]],
  ])('copy %s up and down', (dtype, data, shape) => {
    const tensor = Tensor.from(data, shape, { device, dtype })
    expect(tensor).toMatchObject({ dtype, shape, device, isDisposed: false, length: data.length })
    const copy = data.slice()
    data.fill(0)
    expect(tensor.toHost()).toEqual(copy)
    tensor.dispose()
    tensor.dispose()
    expect(tensor.isDisposed).toBe(true)
    expect(() => tensor.toHost()).toThrow(code('ERR_MOE_DISPOSED'))
  })

  it('hold device memory until they are disposed of', async () => {
    const before = await settledDeviceBytes(device)
    const tensor = Tensor.from(new Float32Array(1 << 18), [1 << 18], { device })
    expect(counters(device).deviceBytes - before).toBeGreaterThanOrEqual(1 << 20)
    tensor.dispose()
    expect(counters(device).deviceBytes).toBe(before)
  })

  it('are freed when they are forgotten', async () => {
    const before = await settledDeviceBytes(device)
    for (let i = 0; i < 20; i++) Tensor.from(new Float32Array(1 << 16), [1 << 16], { device })
    const held = () => counters(device).deviceBytes - before
    for (let i = 0; i < 50 && held() > 0; i++) {
      ;(globalThis as { gc?: () => void }).gc?.()
      await sleep(10)
    }
    expect(held()).toBe(0)
  })

  it.each(QUANTIZED_FORMATS)('of %s are refused', format => {
    const matrix = randomQuantized(format, 2, 256, new Random(4))
    expect(() => Tensor.from(matrix, [1, 2, 256], { device })).toThrow(code('ERR_MOE_UNSUPPORTED_FORMAT'))
  })

  it("'cuda' is the first device that works", () => {
    using tensor = Tensor.from(Float32Array.of(1), [1], { device: 'cuda' })
    expect(tensor.device).toMatch(/^cuda:\d+$/)
  })
})

describeCuda('stages over tensors', device => {
  const [numTokens, hiddenSize, width, numExperts, topK] = [33, 72, 40, 8, 3]
  const random = new Random(17)
  const arrays = {
    hidden: [random.normals(numTokens * hiddenSize), [numTokens, hiddenSize]],
    router: [random.normals(numExperts * hiddenSize, 0.3), [numExperts, hiddenSize]],
    gateUp: [random.normals(numExperts * 2 * width * hiddenSize, 0.1), [numExperts, 2 * width, hiddenSize]],
    down: [random.normals(numExperts * hiddenSize * width, 0.1), [numExperts, hiddenSize, width]],
  } as const
  const on = (where: string) => {
    const entries = Object.entries(arrays).map(([name, [data, shape]]) => [
      name,
      Tensor.from(data, [...shape], { device: where }),
    ])
    return { ...Object.fromEntries(entries), numExperts, topK } as Parameters<typeof runStages>[0]
  }

  it('give what the host’s give, and nothing passes over the host', async () => {
    const expected = runStages(on('reference'))
    const inputs = on(device)
    // The device keeps its scratch.
    const free = ({ all }: ReturnType<typeof runStages>) => {
      for (const tensor of all) tensor.dispose()
    }
    free(runStages(inputs))
    const before = await settledDeviceBytes(device)
    let result!: ReturnType<typeof runStages>
    const moved = await counted(device, () => {
      result = runStages(inputs)
    })
    expect(result.output.device).toBe(device)
    expect(moved.kernelLaunches).toBeGreaterThanOrEqual(6)
    expect(moved.copiedToDeviceBytes).toBe(0)
    expect(moved.copiedToHostBytes).toBeLessThanOrEqual(6 * VERDICT_BYTES)
    expect(result.topkIds.toHost()).toEqual(expected.topkIds.toHost())
    expectClose(result.topkWeights.toHost(), expected.topkWeights.toHost(), WEIGHT_BOUND)
    expectClose(result.output.toHost(), expected.output.toHost(), BOUNDS.f32)
    const again = runStages(inputs)
    expect(again.output.toHost()).toEqual(result.output.toHost())
    free(result)
    free(again)
    expect(counters(device).deviceBytes).toBe(before)
  })

  it('refuse tensors of another device before anything runs', async () => {
    const here = on(device)
    const { router } = on('cpu')
    const moved = await counted(device, () => {
      expect(() => stages.gate(here.hidden, router)).toThrow(code('ERR_MOE_INVALID_ARG_VALUE'))
      expect(() => stages.gate(router, here.hidden)).toThrow(code('ERR_MOE_INVALID_ARG_VALUE'))
    })
    expect(moved.kernelLaunches).toBe(0)
  })

  it('take arrays of the host as well, at the level of the addon', () => {
    const [hidden, router] = [arrays.hidden[0], arrays.router[0]]
    const logits = new Float32Array(numTokens * numExperts)
    const sizes = [numTokens, hiddenSize, numExperts] as const
    loadNative().gate(device, hidden, 'f32', router, 'f32', null, ...sizes, logits)
    const { hidden: x, router: w } = on(device)
    expect(logits).toEqual(stages.gate(x, w).toHost())
  })

  it('refuse ids, offsets and slots that lead outside, and go on', () => {
    const ids = Tensor.from(Int32Array.of(0, 1, 9, 2), [2, 2], { device })
    const outside = code('ERR_MOE_INVALID_ARG_VALUE')
    expect(() => stages.dispatch(ids, 4)).toThrow(outside)
    const dispatched = stages.dispatch(ids, 10)
    const rows = Tensor.from(new Float32Array(4 * 3).fill(1), [4, 3], { device })
    const weights = Tensor.from(Float32Array.of(1, 2, 4, 8), [2, 2], { device })
    const matrices = Tensor.from(new Float32Array(10 * 2 * 3), [10, 2, 3], { device })
    const forge = (name: 'expertOffsets' | 'sortedSlots', values: Int32Array) => ({
      ...dispatched,
      [name]: Tensor.from(values, [values.length], { device }),
    })
    const offsets = dispatched.expertOffsets.toHost() as Int32Array
    for (const forged of [
      forge('sortedSlots', Int32Array.of(0, 1, 4, 2)),
      forge('sortedSlots', Int32Array.of(0, 1, -1, 2)),
      forge('sortedSlots', Int32Array.of(0, 1, 1, 2)),
      forge('expertOffsets', offsets.with(10, 5)),
      forge('expertOffsets', offsets.with(0, 1)),
      forge('expertOffsets', offsets.with(3, 4).with(4, 0)),
    ]) {
      expect(() => stages.combine(rows, forged, weights)).toThrow(outside)
      expect(() => stages.expertMatmul(rows, matrices, forged)).toThrow(outside)
    }
    expect([...stages.combine(rows, dispatched, weights).toHost()]).toEqual([3, 3, 3, 12, 12, 12])
  })
})

describeCuda('layers over tensors', device => {
  const options = { device }

  it('give the bits that arrays give; the activations stay on the device', async () => {
    const { layer, hidden, config } = tinyLayer({ ...options, dtype: 'bf16' }, { ...tinyCase, numTokens: 64 })
    using _ = layer
    using tensor = Tensor.from(hidden, [64, config.hiddenSize], { device })
    const expected = layer.forwardSync(hidden)
    const slots = 64 * config.topK
    let fromTensor!: Awaited<ReturnType<typeof layer.forward<Tensor>>>
    const moved = await counted(device, async () => {
      fromTensor = await layer.forward(tensor)
    })
    expect(fromTensor.output).toMatchObject({ device, dtype: 'f32', shape: [64, config.hiddenSize] })
    // Ids, weights and flags come back, and nothing else.
    expect(moved.copiedToDeviceBytes).toBe(0)
    expect(moved.copiedToHostBytes).toBeLessThan(slots * 8 + 64 + 1024)
    expect(fromTensor.output.toHost()).toEqual(expected.output)
    expect(fromTensor.topkIds).toEqual(expected.topkIds)
    expect(fromTensor.topkWeights).toEqual(expected.topkWeights)
    // A layer's output is the next one's input.
    const chained = layer.forwardSync(fromTensor.output).output
    expect(chained.toHost()).toEqual(layer.forwardSync(expected.output).output)
  })

  it.each([...FAMILY_CASES])('$name: arrays and tensors give the same bits', layerCase => {
    for (const dtype of ['bf16', 'f32'] as const) {
      const { config, weights, hidden, options: call } = makeLayerData(layerCase, dtype)
      using layer = MoeLayer.create(config, weights, { ...options, dtype })
      const shape = [layerCase.numTokens, config.hiddenSize]
      const up = (values: Float32Array) => Tensor.from(fromFloat32(values, dtype), shape, { device, dtype })
      const { routerInput, ...rest } = call
      const array = layer.forwardSync(fromFloat32(hidden, dtype), {
        ...rest,
        ...(routerInput ? { routerInput: fromFloat32(routerInput, dtype) } : {}),
      })
      using tensor = up(hidden)
      const result = layer.forwardSync(tensor, {
        ...rest,
        ...(routerInput ? { routerInput: up(routerInput) } : {}),
      })
      expect(result.output).toMatchObject({ device, dtype, shape })
      expect(result.output.toHost()).toEqual(array.output)
      expect(result.topkIds).toEqual(array.topkIds)
      expect(result.topkWeights).toEqual(array.topkWeights)
    }
  })

  it('write into the caller’s tensor', async () => {
    const { layer, hidden, config } = tinyLayer(options)
    using _ = layer
    const shape = [6, config.hiddenSize]
    using tensor = Tensor.from(hidden, shape, { device })
    using output = Tensor.from(new Float32Array(hidden.length).fill(Number.NaN), shape, { device })
    expect((await layer.forward(tensor, { output })).output).toBe(output)
    expect(output.toHost()).toEqual(layer.forwardSync(hidden).output)
    expect(layer.forwardSync(tensor, { output }).output).toBe(output)
  })

  it('refuse tensors of another device before anything runs', async () => {
    const { layer, hidden, config } = tinyLayer(options)
    using _ = layer
    const cpu = MoeLayer.create(config, makeLayerData(tinyCase, 'f32').weights, { device: 'cpu' })
    const shape = [6, config.hiddenSize]
    const here = Tensor.from(hidden, shape, { device })
    const there = Tensor.from(hidden, shape, { device: 'cpu' })
    const moved = await counted(device, async () => {
      const wrong = code('ERR_MOE_INVALID_ARG_VALUE')
      await expect(layer.forward(there)).rejects.toEqual(wrong)
      await expect(cpu.forward(here)).rejects.toEqual(wrong)
      expect(() => layer.forwardSync(here, { output: there })).toThrow(wrong)
    })
    expect(moved.kernelLaunches + moved.graphReplays).toBe(0)
    cpu.dispose()
  })

  it('lease tensors as they lease arrays', async () => {
    const { layer, hidden, config } = tinyLayer(options)
    using _ = layer
    const shape = [6, config.hiddenSize]
    const tensor = Tensor.from(hidden, shape, { device })
    const output = Tensor.from(hidden, shape, { device })
    const busy = code('ERR_MOE_BUFFER_BUSY')
    await expect(layer.forward(tensor, { output: tensor })).rejects.toEqual(busy)
    const running = layer.forward(tensor, { output })
    await expect(layer.forward(output)).rejects.toEqual(busy)
    await expect(layer.forward(tensor, { output })).rejects.toEqual(busy)
    const reading = layer.forward(tensor)
    await Promise.all([running, reading])
    await layer.forward(output)
  })

  it('finish calls whose tensors were disposed of meanwhile', async () => {
    const { layer, hidden, config } = tinyLayer(options)
    const expected = layer.forwardSync(hidden).output
    const before = await settledDeviceBytes(device)
    const calls = Array.from({ length: 8 }, () => {
      const tensor = Tensor.from(hidden, [6, config.hiddenSize], { device })
      const call = layer.forward(tensor)
      tensor.dispose()
      return call
    })
    for (const { output } of await Promise.all(calls)) {
      expect(output.toHost()).toEqual(expected)
      output.dispose()
    }
    expect(counters(device).deviceBytes).toBe(before)
    layer.dispose()
  })

  it('free the new output of a call that was aborted', async () => {
    const { layer, hidden, config } = tinyLayer(options, slowCase(device))
    using _ = layer
    using tensor = Tensor.from(hidden, [hidden.length / config.hiddenSize, config.hiddenSize], { device })
    await layer.forward(tensor).then(({ output }) => output.dispose())
    const before = await settledDeviceBytes(device)
    const abort = new AbortController()
    const running = layer.forward(tensor)
    const queued = layer.forward(tensor, { signal: abort.signal })
    abort.abort(new Error('enough'))
    await expect(queued).rejects.toThrow('enough')
    ;(await running).output.dispose()
    expect(counters(device).deviceBytes).toBe(before)
  })
})

describe('tensors on no device', () => {
  it('say why', () => {
    expect(() => Tensor.from(Float32Array.of(1), [1], { device: 'cuda:97' })).toThrow(
      code('ERR_MOE_DEVICE_UNAVAILABLE'),
    )
    for (const device of ['auto', 'gpu', 'cuda:', 'cuda:x']) {
      expect(() => Tensor.from(Float32Array.of(1), [1], { device: device as DeviceOption })).toThrow(
        RangeError,
      )
    }
  })
})
