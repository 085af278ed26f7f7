/** `openCheckpoint`: layers from headers alone, loads from one parse, files that change, and the end of it. */

import { rename, rm, truncate, utimes, writeFile } from 'node:fs/promises'
import path from 'node:path'
import { afterAll, describe, expect, it } from 'vitest'
import { MoeLayer, openCheckpoint } from '../../lib/index.js'
import { Random } from '../cases/random.js'
import { removeGguf, writeGguf } from '../golden/gguf-layer.js'
import {
  CONFIG,
  EXPERTS,
  HIDDEN,
  layerTensors,
  removeCheckpoints,
  temporaryDirectory,
  WIDTH,
  writeCheckpoint,
} from '../helpers/checkpoint-tiny.js'
import { allDevices } from '../helpers/devices.js'
import { E, experts, H, I, K, model } from '../helpers/gguf-model.js'
import { skippedOnWindows } from '../helpers/platform.js'

afterAll(removeCheckpoints)
afterAll(removeGguf)

/** Layers 1 and 2, a shard each. */
const sharded = () => writeCheckpoint(CONFIG, [layerTensors(1), layerTensors(2)])
/** Bytes of a layer: router and bias, experts and the shared one, in f32. */
const LAYER_BYTES = 4 * (EXPERTS * HIDDEN + EXPERTS + (EXPERTS + 1) * 3 * WIDTH * HIDDEN)
const code = (value: string) => expect.objectContaining({ code: value })

describe('what it says', () => {
  it('of a directory: model, layers with experts, how they are stored and how large', async () => {
    await using checkpoint = await openCheckpoint(await sharded())
    expect(checkpoint).toMatchObject({ modelType: 'deepseek_v3', numLayers: 3, notices: [] })
    expect(checkpoint.layers.map(({ index }) => index)).toEqual([1, 2])
    for (const layer of checkpoint.layers) {
      expect(layer).toMatchObject({ storedFormat: 'f32', storedBytes: LAYER_BYTES })
      expect(layer.config).toMatchObject({ numExperts: EXPERTS, topK: 2, hiddenSize: HIDDEN })
    }
  })

  it('of a GGUF file', async () => {
    const file = writeGguf(model([...experts(0), ...experts(1)]))
    await using checkpoint = await openCheckpoint(file)
    expect(checkpoint).toMatchObject({ source: file, modelType: 'qwen3_moe', numLayers: 2 })
    const storedBytes = 4 * (E * H + 3 * E * I * H)
    expect(checkpoint.layers).toMatchObject([
      { index: 0, storedFormat: 'f32', storedBytes, config: { topK: K } },
      { index: 1, storedFormat: 'f32', storedBytes },
    ])
  })

  it('the layer for multi-token prediction is not listed, and can be loaded', async () => {
    const directory = await writeCheckpoint(CONFIG, [layerTensors(1), layerTensors(2), layerTensors(3)])
    await using checkpoint = await openCheckpoint(directory)
    expect(checkpoint.layers.map(({ index }) => index)).toEqual([1, 2])
    await using layer = await checkpoint.loadLayer(3, { device: 'reference' })
    expect(layer.index).toBe(3)
  })

  it('fields that the config option replaces hold for all layers', async () => {
    await using checkpoint = await openCheckpoint(await sharded(), { config: { routedScalingFactor: 1 } })
    for (const { config } of checkpoint.layers) expect(config.routedScalingFactor).toBe(1)
    for (const options of [{ config: {} }, { module: 'model' }] as object[]) {
      await expect(checkpoint.loadLayer(1, options)).rejects.toEqual(code('ERR_MOE_INVALID_ARG_VALUE'))
      await expect(checkpoint.loadModel(options)).rejects.toEqual(code('ERR_MOE_INVALID_ARG_VALUE'))
      await expect(checkpoint.plan(options)).rejects.toEqual(code('ERR_MOE_INVALID_ARG_VALUE'))
    }
  })
})

describe.each(allDevices)('loads on %s', device => {
  it('a layer as MoeLayer.load does, bit for bit, and again from the same files', async () => {
    const directory = await sharded()
    await using checkpoint = await openCheckpoint(directory)
    const hidden = new Random(3).normals(5 * HIDDEN)
    for (const index of [2, 1, 2]) {
      await using layer = await checkpoint.loadLayer(index, { device })
      await using alone = await MoeLayer.load(directory, { layer: index, device })
      expect(layer.index).toBe(index)
      expect((await layer.forward(hidden)).output).toEqual((await alone.forward(hidden)).output)
    }
  })
})

const keepsOpenFiles = skippedOnWindows(
  'files that go while a checkpoint is open',
  'an open file keeps its name',
)
const GOES_BESIDE_READERS: [string, (file: string) => Promise<void>][] = [
  [
    'replaced by another',
    async file => {
      await writeFile(`${file}.new`, Buffer.alloc(100))
      await rename(`${file}.new`, file)
    },
  ],
  ['removed', file => rm(file)],
]

describe('files that change after it was opened', () => {
  const shard = (directory: string) => path.join(directory, 'model-00001-of-00002.safetensors')

  it.each<[string, (file: string) => Promise<void>]>([
    ['cut', file => truncate(file, 2000)],
    ['written again', file => utimes(file, new Date(), new Date(Date.now() + 5000))],
    ...(keepsOpenFiles ? [] : GOES_BESIDE_READERS),
  ])(
    'one that was %s is an error that says so, and the layers of other files still load',
    async (_, change) => {
      const directory = await sharded()
      await using checkpoint = await openCheckpoint(directory)
      await change(shard(directory))
      await expect(checkpoint.loadLayer(1, { device: 'auto' })).rejects.toMatchObject({
        code: 'ERR_MOE_IO',
        message: expect.stringMatching(/since the checkpoint was opened.*open the checkpoint again/),
        details: { file: shard(directory) },
      })
      await using other = await checkpoint.loadLayer(2)
      expect(other.isDisposed).toBe(false)
      await expect(checkpoint.loadModel()).rejects.toMatchObject({ code: 'ERR_MOE_IO' })
    },
  )
})

describe('errors and the end', () => {
  it('one that is closed loads nothing, and what was loaded goes on', async () => {
    const checkpoint = await openCheckpoint(await sharded())
    await using layer = await checkpoint.loadLayer(1, { device: 'reference' })
    await checkpoint.close()
    await checkpoint.close()
    await expect(checkpoint.loadLayer(1)).rejects.toEqual(code('ERR_MOE_DISPOSED'))
    await expect(checkpoint.loadModel()).rejects.toEqual(code('ERR_MOE_DISPOSED'))
    expect((await layer.forward(new Float32Array(HIDDEN))).numTokens).toBe(1)
  })

  it('without a layer that has experts there is nothing to open', async () => {
    const directory = await writeCheckpoint({ ...CONFIG, first_k_dense_replace: 3 }, layerTensors(1))
    await expect(openCheckpoint(directory)).rejects.toEqual(code('ERR_MOE_NOT_SPARSE'))
  })

  it('a shard that is missing, wrong arguments and an abort', async () => {
    const directory = await sharded()
    await rm(path.join(directory, 'model-00002-of-00002.safetensors'))
    await expect(openCheckpoint(directory)).rejects.toThrow(/download is not complete/)
    await expect(openCheckpoint(temporaryDirectory())).rejects.toEqual(code('ERR_MOE_IO'))
    await expect(openCheckpoint(7 as never)).rejects.toEqual(code('ERR_MOE_INVALID_ARG_TYPE'))
    await expect(openCheckpoint('x', { device: 'cpu' } as never)).rejects.toEqual(
      code('ERR_MOE_UNKNOWN_OPTION'),
    )
    const reason = new Error('enough')
    await expect(openCheckpoint(directory, { signal: AbortSignal.abort(reason) })).rejects.toBe(reason)
    await using whole = await openCheckpoint(await sharded())
    await expect(whole.loadLayer(0)).rejects.toEqual(code('ERR_MOE_NOT_SPARSE'))
    await expect(whole.loadLayer(-1)).rejects.toEqual(code('ERR_MOE_INVALID_ARG_VALUE'))
  })
})
