/** `MoeModel`: many layers loaded as one, all or none, and each of them the layer that MoeLayer.load makes. */

import { readdirSync, truncateSync } from 'node:fs'
import path from 'node:path'
import { afterAll, afterEach, beforeAll, describe, expect, it, vi } from 'vitest'
import { assignDevices } from '../../lib/api/model-plan.js'
import { planLayer } from '../../lib/checkpoint/plan/layer.js'
import { hostMemory } from '../../lib/devices/host-memory.js'
import { NativeLayerRuntime } from '../../lib/devices/native/runtime.js'
import { type LoadProgress, MoeLayer, MoeModel, metrics } from '../../lib/index.js'
import { Random } from '../cases/random.js'
import { goldenCases } from '../golden/cases.js'
import { writeManyTensors } from '../helpers/checkpoint-many.js'
import {
  CONFIG,
  HIDDEN,
  layerTensors,
  removeCheckpoints,
  temporaryDirectory,
  writeCheckpoint,
} from '../helpers/checkpoint-tiny.js'
import { allDevices, nativeDevices } from '../helpers/devices.js'

const FIVE = { ...CONFIG, num_hidden_layers: 6, num_nextn_predict_layers: 0 }
const SPARSE = [1, 2, 3, 4, 5]
/** Layer 0 is dense; layers 1 to 5 stand in three files. */
let directory: string

beforeAll(async () => {
  directory = await writeCheckpoint(FIVE, [
    [...layerTensors(1), ...layerTensors(2)],
    [...layerTensors(3), ...layerTensors(4)],
    layerTensors(5),
  ])
})
afterEach(() => vi.restoreAllMocks())
afterAll(removeCheckpoints)

const code = (value: string) => expect.objectContaining({ code: value })
const rows = (count: number, seed = 1) => new Random(seed).normals(count * HIDDEN)

describe.each(allDevices)('a model on %s', device => {
  it('has the layers that MoeLayer.load makes, bit for bit', async () => {
    await using model = await MoeModel.load(directory, { device })
    expect(model.layers).toEqual(SPARSE)
    const hidden = rows(7)
    for (const index of model.layers) {
      await using alone = await MoeLayer.load(directory, { layer: index, device })
      expect(model.layer(index)).toMatchObject({ index, device: alone.device, config: alone.config })
      const [of, by] = [await model.forward(index, hidden), await alone.forward(hidden)]
      expect(of).toEqual(by)
    }
  })

  it('takes what the plan said, to the byte, and its scratch at load', async () => {
    const options = { device, maxTokens: 300 }
    const plan = await MoeModel.plan(directory, options)
    expect(plan).toMatchObject({ fits: true, reasons: [], maxTokens: 300 })
    await using model = await MoeModel.load(directory, options)
    const { memory: _, ...planned } = plan
    expect(model.plan).toMatchObject(planned)
    for (const { index, hostBytes, deviceBytes, storedBytes } of plan.layers) {
      expect(model.layer(index).stats()).toMatchObject({ hostBytes, deviceBytes })
      expect(storedBytes).toBe(plan.storedBytes / SPARSE.length)
    }
    const { hostBytes, deviceBytes, workspaceBytes } = model.stats()
    const sum = (field: 'weightBytes' | 'workspaceBytes') =>
      plan.memory.reduce((total, memory) => total + memory[field], 0)
    expect(hostBytes + deviceBytes).toBe(sum('weightBytes'))
    if (device === 'reference') return
    expect(workspaceBytes).toBe(sum('workspaceBytes'))
    await model.forward(3, rows(300))
    expect(model.stats().workspaceBytes).toBe(workspaceBytes)
  })

  it('reports one progress over all layers', async () => {
    const seen: LoadProgress[] = []
    const onProgress = (progress: LoadProgress) => seen.push({ ...progress })
    await using model = await MoeModel.load(directory, { device, onProgress })
    expect(seen[0]).toMatchObject({ loadedBytes: 0, totalBytes: model.plan.storedBytes })
    expect(seen.at(-1)!.loadedBytes).toBe(model.plan.storedBytes)
    seen.forEach(({ loadedBytes, totalBytes, layer }, i) => {
      expect(totalBytes).toBe(seen[0]!.totalBytes)
      expect(loadedBytes).toBeGreaterThanOrEqual(seen[Math.max(0, i - 1)]!.loadedBytes)
      expect(SPARSE).toContain(layer)
    })
  })

  it.each([0, 0.5, 1])('stops when it is aborted with a share of %d loaded', async share => {
    const controller = new AbortController()
    const reason = new Error('enough')
    const onProgress = ({ loadedBytes, totalBytes }: LoadProgress) => {
      if (loadedBytes >= share * totalBytes) controller.abort(reason)
    }
    const { signal } = controller
    await expect(MoeModel.load(directory, { device, signal, onProgress })).rejects.toBe(reason)
  })

  it('leaves nothing behind where a layer does not load', async () => {
    const damaged = await writeCheckpoint(
      FIVE,
      SPARSE.map(layer => layerTensors(layer)),
    )
    const dispose = vi.spyOn(NativeLayerRuntime.prototype, 'dispose')
    // Behind all checks of headers: cut when the first bytes are read.
    const onProgress = ({ loadedBytes }: LoadProgress) => {
      if (loadedBytes > 0) truncateSync(path.join(damaged, 'model-00005-of-00005.safetensors'), 1500)
    }
    await expect(MoeModel.load(damaged, { device, onProgress })).rejects.toMatchObject({ code: 'ERR_MOE_IO' })
    if (device !== 'reference') expect(dispose.mock.calls.length).toBeGreaterThan(0)
  })
})

describe('which layers', () => {
  const load = (layers: unknown) => MoeModel.load(directory, { device: 'reference', layers: layers as 'all' })

  it.each<[unknown, number[]]>([
    ['all', SPARSE],
    [
      [4, 2],
      [2, 4],
    ],
    [{ from: 2, to: 4 }, [2, 3]],
    [{ from: 4 }, [4, 5]],
    [{ to: 2 }, [1]],
    [{}, SPARSE],
  ])('%j', async (layers, expected) => {
    await using model = await load(layers)
    expect(model.layers).toEqual(expected)
    expect(Object.keys(model.stats().layers)).toEqual(expected.map(String))
  })

  it.each<[unknown, string]>([
    [[0, 1], 'ERR_MOE_NOT_SPARSE'],
    [[1, 99], 'ERR_MOE_INVALID_ARG_VALUE'],
    [[], 'ERR_MOE_INVALID_ARG_VALUE'],
    [[1, 1], 'ERR_MOE_INVALID_ARG_VALUE'],
    [[1.5], 'ERR_MOE_INVALID_ARG_VALUE'],
    [{ from: 6 }, 'ERR_MOE_INVALID_ARG_VALUE'],
    [{ from: -1 }, 'ERR_MOE_INVALID_ARG_VALUE'],
    [{ first: 1 }, 'ERR_MOE_INVALID_ARG_VALUE'],
    ['first', 'ERR_MOE_INVALID_ARG_VALUE'],
    [3, 'ERR_MOE_INVALID_ARG_TYPE'],
    [null, 'ERR_MOE_INVALID_ARG_TYPE'],
  ])('%j is refused', async (layers, expected) => {
    await expect(load(layers)).rejects.toEqual(code(expected))
  })
})

describe('several devices', () => {
  it('share layers in a row by their bytes', () => {
    expect(assignDevices([1, 1, 1, 1, 1, 1], 3)).toEqual([0, 0, 1, 1, 2, 2])
    expect(assignDevices([4, 1, 1, 1, 1], 2)).toEqual([0, 1, 1, 1, 1])
    expect(assignDevices([1, 1, 1, 1, 4], 2)).toEqual([0, 0, 0, 0, 1])
    expect(assignDevices([1], 4)).toEqual([2])
    expect(assignDevices([], 2)).toEqual([])
  })

  it('hold a model together', async () => {
    const device = [nativeDevices[0]!, 'reference']
    await using model = await MoeModel.load(directory, { device })
    expect(model.layers.map(index => model.layer(index).device)).toEqual([
      ...[device[0], device[0], device[1], device[1], device[1]],
    ])
    const hidden = rows(2)
    for (const index of model.layers) expect((await model.forward(index, hidden)).numTokens).toBe(2)
    expect(model.health()).toEqual({ status: 'ready' })
  })
})

describe('memory that is not there', () => {
  it('is an error before anything is read, with figures and the next step; the plan says the same', async () => {
    const huge = temporaryDirectory()
    const [numExperts, hiddenSize, width] = [8, 4096, 4096]
    const layerBytes = 2 * 3 * hiddenSize * width * (numExperts + 1)
    // Each layer would fit alone.
    const numLayers = Math.ceil((1.5 * hostMemory().freeBytes) / layerBytes)
    await writeManyTensors(huge, { numLayers, numExperts, numShards: numLayers, hiddenSize, width })
    const onProgress = vi.fn()
    const error = await MoeModel.load(huge, { device: nativeDevices[0]!, onProgress }).catch(error => error)
    expect(error).toMatchObject({
      code: 'ERR_MOE_OUT_OF_MEMORY',
      details: { neededBytes: expect.any(Number), freeBytes: expect.any(Number), memory: expect.any(String) },
    })
    expect(error.details.neededBytes).toBeGreaterThan(numLayers * layerBytes)
    expect(error.message).toMatch(/load fewer `layers`/)
    expect(onProgress).not.toHaveBeenCalled()
    const plan = await MoeModel.plan(huge, { device: nativeDevices[0]! })
    expect(plan.fits).toBe(false)
    expect(plan.reasons).toHaveLength(1)
    expect(plan.memory.filter(({ fits }) => !fits)).toHaveLength(1)
    // A part of it fits.
    expect((await MoeModel.plan(huge, { device: nativeDevices[0]!, layers: [0] })).fits).toBe(true)
  })
})

describe('a model in use', () => {
  it('owns its layers: one that is disposed of by itself goes alone', async () => {
    const model = await MoeModel.load(directory, { device: nativeDevices[0]! })
    const before = model.stats()
    model.layer(2).dispose()
    await expect(model.forward(2, rows(1))).rejects.toEqual(code('ERR_MOE_DISPOSED'))
    expect((await model.forward(3, rows(1))).numTokens).toBe(1)
    const after = model.stats()
    const held = (stats: typeof before) => stats.hostBytes + stats.deviceBytes
    expect(held(after)).toBeLessThan(held(before))
    expect(model.isDisposed).toBe(false)
    await model[Symbol.asyncDispose]()
    expect(model.isDisposed).toBe(true)
    await expect(model.forward(3, rows(1))).rejects.toEqual(code('ERR_MOE_DISPOSED'))
    expect(held(model.stats())).toBe(0)
    model.dispose()
  })

  it('calls that were accepted finish after dispose', async () => {
    const model = await MoeModel.load(directory, { device: nativeDevices[0]! })
    const calls = model.layers.map(index => model.forward(index, rows(4)))
    model.dispose()
    for (const { numTokens } of await Promise.all(calls)) expect(numTokens).toBe(4)
  })

  it('counts over its layers, and for each', async () => {
    await using model = await MoeModel.load(directory, { device: nativeDevices[0]! })
    for (const index of [1, 2, 2]) await model.forward(index, rows(3))
    const stats = model.stats()
    expect(stats).toMatchObject({ calls: 3, tokens: 9, queueDepth: 0, failedCalls: 0 })
    expect(SPARSE.map(index => stats.layers[index]!.tokens)).toEqual([3, 6, 0, 0, 0])
    const text = metrics(model)
    expect(text).toContain(`sparse_experts_tokens_total{layer="2",device="${model.layer(2).device}"} 6`)
    expect(metrics({ main: model, other: model.layer(1) })).toMatch(
      /tokens_total\{layer="main\.2".*\n(.*\n)*.*tokens_total\{layer="other"/,
    )
  })

  it('has one queue bound for all of its layers', async () => {
    await using model = await MoeModel.load(directory, { device: nativeDevices[0]!, maxQueuedTokens: 10 })
    const first = model.forward(1, rows(8))
    await expect(model.forward(2, rows(8))).rejects.toEqual(code('ERR_MOE_QUEUE_FULL'))
    await first
    expect((await model.forward(2, rows(8))).numTokens).toBe(8)
    expect(model.stats()).toMatchObject({ rejectedCalls: 1, queuedTokens: 0 })
  })

  it('two models of one checkpoint do not know of each other', async () => {
    const device = nativeDevices[0]!
    await using one = await MoeModel.load(directory, { device, layers: [1, 2] })
    const two = await MoeModel.load(directory, { device, layers: [2, 3] })
    const hidden = rows(4)
    expect((await one.forward(2, hidden)).output).toEqual((await two.forward(2, hidden)).output)
    two.dispose()
    expect((await one.forward(2, hidden)).numTokens).toBe(4)
  })
})

describe('arguments', () => {
  it.each<[object, string]>([
    [{ cache: { hostBytes: 0 } }, 'ERR_MOE_INVALID_ARG_VALUE'],
    [{ parallel: {} }, 'ERR_MOE_UNSUPPORTED_OPTION'],
    [{ layer: 1 }, 'ERR_MOE_UNKNOWN_OPTION'],
    [{ maxTokens: 0 }, 'ERR_MOE_INVALID_ARG_VALUE'],
    [{ maxTokens: '1' }, 'ERR_MOE_INVALID_ARG_TYPE'],
    [{ device: [] }, 'ERR_MOE_INVALID_ARG_VALUE'],
    [{ device: ['cpu', 7] }, 'ERR_MOE_INVALID_ARG_TYPE'],
    [{ device: 'gpu' }, 'ERR_MOE_INVALID_ARG_VALUE'],
    [{ weights: 'int3' }, 'ERR_MOE_INVALID_ARG_VALUE'],
  ])('%j is refused with %s', async (options, expected) => {
    await expect(MoeModel.load(directory, options)).rejects.toEqual(code(expected))
    await expect(MoeModel.plan(directory, options)).rejects.toEqual(code(expected))
  })

  it('a checkpoint without experts', async () => {
    const dense = await writeCheckpoint({ ...FIVE, first_k_dense_replace: 6 }, layerTensors(1))
    for (const layers of ['all', [1]] as const)
      await expect(MoeModel.load(dense, { layers })).rejects.toEqual(code('ERR_MOE_NOT_SPARSE'))
  })

  it('a source that is no text, and a layer that the model does not hold', async () => {
    await expect(MoeModel.load(7 as never)).rejects.toEqual(code('ERR_MOE_INVALID_ARG_TYPE'))
    await using model = await MoeModel.load(directory, { device: 'reference', layers: [1] })
    expect(() => model.layer(2)).toThrow(RangeError)
    expect(() => model.layer('1' as never)).toThrow(TypeError)
    await expect(model.forward(0, rows(1))).rejects.toEqual(code('ERR_MOE_INVALID_ARG_VALUE'))
  })
})

describe.each(nativeDevices)('published forms on %s', device => {
  it.each(goldenCases().map(({ name, directory: source, expected }) => [name, source, expected] as const))(
    'the plan of %s is what loading takes',
    async (_, source, { layer, module }) => {
      const options = { device, module, layers: [layer] }
      const plan = await MoeModel.plan(source, options)
      await using model = await MoeModel.load(source, options)
      const { hostBytes, deviceBytes } = model.stats()
      const [planned] = plan.layers
      // Where columns have group indices, headers do not tell whether these say anything.
      const { matrices } = await planLayer(source, { layer, module })
      if (matrices.some(({ groupIndex }) => groupIndex)) {
        expect(hostBytes + deviceBytes).toBeLessThanOrEqual(planned!.hostBytes + planned!.deviceBytes)
        return
      }
      expect(planned).toMatchObject({ hostBytes, deviceBytes })
      expect(model.layer(layer).weightFormat).toEqual(planned!.weightFormat)
    },
  )
})

describe.runIf(process.platform === 'linux' && nativeDevices.includes('cpu'))('many layers', () => {
  it('are loaded by as many threads as one', async () => {
    const many = temporaryDirectory()
    await writeManyTensors(many, { numLayers: 40, numExperts: 32, numShards: 3 })
    const threads = () => readdirSync('/proc/self/task').length
    // The pool and the device's thread are there from the first load on.
    await using warm = await MoeModel.load(many, { device: 'cpu', layers: [0] })
    await warm.forward(0, new Float32Array(16))
    const before = threads()
    let most = 0
    const onProgress = () => {
      most = Math.max(most, threads())
    }
    await using model = await MoeModel.load(many, { device: 'cpu', onProgress })
    expect(model.layers).toHaveLength(40)
    // The task's own thread and three helpers.
    expect(most - before).toBeLessThanOrEqual(4)
  })
})
