/** The cache of a layer on a GPU: experts in its own memory, over page-locked memory of the host, over the checkpoint. */

import { copyFileSync, mkdtempSync, readdirSync, rmSync, truncateSync } from 'node:fs'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { afterAll, afterEach, expect, it } from 'vitest'
import { type CacheOptions, type DeviceOption, MoeLayer, MoeModel } from '../../lib/index.js'
import { Random } from '../cases/random.js'
import { goldenCase } from '../golden/cases.js'
import { expectAbortsToSettle } from '../helpers/aborted-calls.js'
import { CONFIG, HIDDEN, removeCheckpoints, writeThreeLayers } from '../helpers/checkpoint-tiny.js'
import { counters, describeCuda, settledDeviceBytes } from '../helpers/cuda.js'

const GOLDEN = goldenCase('deepseek_v3')
const { expected } = GOLDEN
const INPUT = Float32Array.from(expected.input)
const ROW = INPUT.slice(0, expected.hiddenSize)
const LEAST = expected.topK + 1

const directories: string[] = []
const layers: MoeLayer[] = []

afterAll(removeCheckpoints)
afterEach(() => {
  for (const layer of layers.splice(0)) layer.dispose()
  for (const directory of directories.splice(0)) rmSync(directory, { recursive: true, force: true })
})

describeCuda('a cache', device => {
  async function load(cache?: CacheOptions, source = GOLDEN.directory): Promise<MoeLayer> {
    const layer = await MoeLayer.load(source, {
      layer: expected.layer,
      dtype: 'f32',
      device: device as DeviceOption,
      ...(cache && { cache }),
    })
    layers.push(layer)
    return layer
  }

  /** Bytes of so many experts. */
  const bytesOf = async (experts: number): Promise<number> =>
    experts * (await load({ deviceBytes: 2 ** 30 })).stats().cache!.expertBytes

  it('is in memory of its own', async () => {
    await expect(load({ hostBytes: 2 ** 30 })).rejects.toMatchObject({
      code: 'ERR_MOE_UNSUPPORTED_OPTION',
      details: { option: 'cache.hostBytes', device },
    })
    const least = await bytesOf(LEAST)
    await expect(load({ deviceBytes: least - 1 })).rejects.toMatchObject({
      code: 'ERR_MOE_CACHE_TOO_SMALL',
      message: expect.stringContaining('deviceBytes'),
      details: { neededBytes: least, cacheBytes: least - 1 },
    })
    await expect(load({ deviceBytes: least, hostBytes: 1 })).rejects.toMatchObject({
      code: 'ERR_MOE_CACHE_TOO_SMALL',
      details: { neededBytes: least / LEAST, cacheBytes: 1 },
    })
  })

  it('takes what it was given, and gives it back', async () => {
    const one = await bytesOf(1)
    // What the device keeps for all of its layers is there already.
    await layers[0]!.forward(ROW)
    for (const layer of layers.splice(0)) await layer[Symbol.asyncDispose]()
    const before = await settledDeviceBytes(device)
    const { pinnedBytes } = counters(device)
    const whole = await load()
    const layer = await load({ deviceBytes: LEAST * one, hostBytes: 3 * one })
    const { cache, deviceBytes, hostBytes } = layer.stats()
    expect(cache).toMatchObject({ slots: LEAST, hostSlots: 3, ringSlots: 0 })
    expect(hostBytes).toBe(3 * one)
    expect(whole.stats().deviceBytes - deviceBytes).toBe((whole.config.numExperts - LEAST) * one)
    expect(layer.explain(1).cache).toMatchObject({ slots: LEAST, hostSlots: 3 })
    expect(counters(device).pinnedBytes - pinnedBytes).toBeGreaterThanOrEqual(3 * one)
    await layer.forward(ROW)
    for (const made of layers.splice(0)) await made[Symbol.asyncDispose]()
    expect(await settledDeviceBytes(device)).toBe(before)
  })

  it.each([
    ['lru', 0],
    ['lru', 2],
    ['lfu', 5],
    ['lfru', 99],
    ['static', 3],
  ] as const)(
    'policy %s with %i experts in memory of the host has the bits of the whole',
    async (policy, host) => {
      const one = await bytesOf(1)
      const resident = await load()
      const layer = await load({
        deviceBytes: LEAST * one,
        ...(host > 0 && { hostBytes: host * one }),
        policy,
        readers: 3,
      })
      for (const rows of [INPUT, ROW, ROW, INPUT, INPUT]) {
        const { output, topkIds } = await layer.forward(rows)
        const whole = await resident.forward(rows)
        expect(output).toEqual(whole.output)
        expect(topkIds).toEqual(whole.topkIds)
      }
      const { hits, misses, hostHits, bytesRead } = layer.stats().cache!
      expect(Math.min(hits, misses, bytesRead)).toBeGreaterThan(0)
      expect(hostHits > 0).toBe(host > 0)
      expect(layer.forwardSync(ROW).output).toEqual(resident.forwardSync(ROW).output)
    },
  )

  it('reads each expert once where the host has room for all', async () => {
    const one = await bytesOf(1)
    const layer = await load({ deviceBytes: LEAST * one, hostBytes: 2 ** 30 })
    await layer.forward(INPUT)
    const { bytesRead, hostHits } = layer.stats().cache!
    const { work } = await layer.forward(INPUT)
    expect(work.fetchedBytes).toBe(0)
    expect(layer.stats().cache!.bytesRead).toBe(bytesRead)
    expect(layer.stats().cache!.hostHits).toBeGreaterThan(hostHits)
    expect(layer.stats().cache!.hostSlots).toBe(layer.config.numExperts)
  })

  it('a file that is cut fails the calls that need it, and what the memories hold still serves', async () => {
    const directory = mkdtempSync(path.join(tmpdir(), 'sparse-experts-cache-'))
    directories.push(directory)
    for (const name of readdirSync(GOLDEN.directory))
      copyFileSync(path.join(GOLDEN.directory, name), path.join(directory, name))
    const one = await bytesOf(1)
    const layer = await load({ deviceBytes: LEAST * one, hostBytes: one }, directory)
    const known = await layer.forward(ROW)
    for (const name of readdirSync(directory))
      if (name.endsWith('.safetensors')) truncateSync(path.join(directory, name), 100)
    await expect(layer.forward(INPUT)).rejects.toMatchObject({ code: 'ERR_MOE_IO' })
    expect(layer.health()).toEqual({ status: 'ready' })
    await expect(layer.forward(INPUT)).rejects.toThrow(directory)
    // An expert of the row may have left for one of those that were to come.
    const again = await layer.forward(ROW).then(
      ({ output }) => output,
      error => error.code,
    )
    expect([known.output, 'ERR_MOE_IO']).toContainEqual(again)
  })

  it('an abort settles a call that waits for experts, and the next one is whole', async () => {
    const one = await bytesOf(1)
    const resident = await load()
    const layer = await load({ deviceBytes: LEAST * one, hostBytes: 2 * one })
    await expectAbortsToSettle(layer, resident, INPUT, 4)
  })

  it.each(['layer', 'model'] as const)('of a model, scope %s', async scope => {
    const directory = await writeThreeLayers()
    const options = { device: device as DeviceOption, dtype: 'f32', maxTokens: 16 } as const
    const { layers: planned } = await MoeModel.plan(directory, options)
    const { expertBytes } = planned[0]!
    expect(expertBytes).toBeGreaterThan(0)
    const share = planned.length * expertBytes
    const tooSmall = (bytes: { deviceBytes: number; hostBytes?: number }) =>
      expect(MoeModel.load(directory, { ...options, cache: bytes })).rejects
    const least = (CONFIG.num_experts_per_tok + 1) * share
    await tooSmall({ deviceBytes: least - 1, hostBytes: share }).toMatchObject({
      code: 'ERR_MOE_CACHE_TOO_SMALL',
      details: { neededBytes: least, cacheBytes: least - 1 },
    })
    await tooSmall({ deviceBytes: least, hostBytes: share - 1 }).toMatchObject({
      code: 'ERR_MOE_CACHE_TOO_SMALL',
      message: expect.stringContaining('bytes of the host'),
      details: { neededBytes: share, cacheBytes: share - 1 },
    })
    const cache = { deviceBytes: least, hostBytes: 2 * share, scope }
    await using model = await MoeModel.load(directory, { ...options, cache })
    await using resident = await MoeModel.load(directory, options)
    const hidden = new Random(3).normals(5 * HIDDEN)
    for (const rows of [hidden, hidden.subarray(0, HIDDEN), hidden]) {
      for (const index of model.layers)
        expect((await model.forward(index, rows)).output).toEqual(
          (await resident.forward(index, rows)).output,
        )
    }
    const { hostBytes, deviceBytes, cache: counted } = model.stats()
    const plan = await MoeModel.plan(directory, { ...options, cache })
    const sum = (name: 'hostBytes' | 'deviceBytes') =>
      plan.layers.reduce((total, layer) => total + layer[name], 0)
    expect([hostBytes, deviceBytes]).toEqual([sum('hostBytes'), sum('deviceBytes')])
    expect(hostBytes).toBe(2 * share)
    expect(plan.memory.find(({ memory }) => memory === 'host')!.weightBytes).toBe(hostBytes)
    expect(counted!.hostHits).toBeGreaterThan(0)
  })
})
