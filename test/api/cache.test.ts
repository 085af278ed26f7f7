/** The option `cache` of a layer: what it takes and refuses, what it counts, and files that fail while calls run. */

import { copyFileSync, mkdtempSync, readdirSync, renameSync, rmSync, truncateSync, utimesSync } from 'node:fs'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { afterEach, describe, expect, it } from 'vitest'
import { type CacheOptions, MoeLayer } from '../../lib/index.js'
import { goldenCase } from '../golden/cases.js'
import { expectAbortsToSettle } from '../helpers/aborted-calls.js'
import { nativeDevices } from '../helpers/devices.js'
import { skippedOnWindows } from '../helpers/platform.js'

const GOLDEN = goldenCase('deepseek_v3')
const { expected } = GOLDEN
const INPUT = Float32Array.from(expected.input)
const ROW = INPUT.slice(0, expected.hiddenSize)

const directories: string[] = []
const layers: MoeLayer[] = []

afterEach(() => {
  for (const layer of layers.splice(0)) layer.dispose()
  for (const directory of directories.splice(0)) rmSync(directory, { recursive: true, force: true })
})

/** A copy of the golden checkpoint, and its files of weights. */
function copied(): { directory: string; files: string[] } {
  const directory = mkdtempSync(path.join(tmpdir(), 'sparse-experts-cache-'))
  directories.push(directory)
  for (const name of readdirSync(GOLDEN.directory)) {
    copyFileSync(path.join(GOLDEN.directory, name), path.join(directory, name))
  }
  const files = readdirSync(directory).filter(name => name.endsWith('.safetensors'))
  return { directory, files: files.map(name => path.join(directory, name)) }
}

async function load(source: string, cache?: CacheOptions, more: object = {}): Promise<MoeLayer> {
  const layer = await MoeLayer.load(source, {
    layer: expected.layer,
    device: 'cpu',
    dtype: 'f32',
    ...(cache && { cache }),
    ...more,
  })
  layers.push(layer)
  return layer
}

/** Bytes of so many experts. */
async function bytesOf(experts: number): Promise<number> {
  const layer = await load(GOLDEN.directory, { hostBytes: 2 ** 40 })
  return experts * layer.stats().cache!.expertBytes
}

describe('everywhere', () => {
  it.each([
    [null, 'ERR_MOE_INVALID_ARG_TYPE'],
    [1, 'ERR_MOE_INVALID_ARG_TYPE'],
    [{}, 'ERR_MOE_INVALID_ARG_TYPE'],
    [{ hostBytes: '4GB' }, 'ERR_MOE_INVALID_ARG_TYPE'],
    [{ hostBytes: 0 }, 'ERR_MOE_INVALID_ARG_VALUE'],
    [{ hostBytes: 1.5 }, 'ERR_MOE_INVALID_ARG_VALUE'],
    [{ deviceBytes: '4GB' }, 'ERR_MOE_INVALID_ARG_TYPE'],
    [{ deviceBytes: 0 }, 'ERR_MOE_INVALID_ARG_VALUE'],
    [{ deviceBytes: 1, hostBytes: -1 }, 'ERR_MOE_INVALID_ARG_VALUE'],
    [{ hostBytes: Number.NaN }, 'ERR_MOE_INVALID_ARG_VALUE'],
    [{ hostBytes: 1, policy: 'fifo' }, 'ERR_MOE_INVALID_ARG_VALUE'],
    [{ hostBytes: 1, readers: '2' }, 'ERR_MOE_INVALID_ARG_TYPE'],
    [{ hostBytes: 1, readers: 0 }, 'ERR_MOE_INVALID_ARG_VALUE'],
    [{ hostBytes: 1, readers: 65 }, 'ERR_MOE_INVALID_ARG_VALUE'],
    [{ hostBytes: 1, directIo: true }, 'ERR_MOE_INVALID_ARG_VALUE'],
    [{ hostBytes: 1, profile: {} }, 'ERR_MOE_INVALID_ARG_TYPE'],
    [{ hostBytes: 1, scope: 'all' }, 'ERR_MOE_INVALID_ARG_VALUE'],
    [{ hostBytes: 1, hostbytes: 2 }, 'ERR_MOE_UNKNOWN_OPTION'],
  ])('refuses %j', async (cache, code) => {
    await expect(load(GOLDEN.directory, undefined, { cache })).rejects.toMatchObject({ code })
  })

  it('is refused by the reference, with what to do', async () => {
    const loading = load(GOLDEN.directory, { hostBytes: 2 ** 40 }, { device: 'reference' })
    await expect(loading).rejects.toMatchObject({
      code: 'ERR_MOE_UNSUPPORTED_OPTION',
      details: { option: 'cache', device: 'reference' },
    })
    await expect(loading).rejects.toThrow(/leave the option out/)
  })
})

describe.skipIf(!nativeDevices.includes('cpu'))('on cpu', () => {
  it('refuses memory of a device of its own', async () => {
    for (const cache of [{ deviceBytes: 2 ** 30 }, { deviceBytes: 2 ** 30, hostBytes: 2 ** 30 }])
      await expect(load(GOLDEN.directory, cache)).rejects.toMatchObject({
        code: 'ERR_MOE_UNSUPPORTED_OPTION',
        details: { option: 'cache.deviceBytes', device: 'cpu' },
      })
  })

  it('says what a layer without it counts: nothing', async () => {
    const layer = await load(GOLDEN.directory)
    expect(layer.stats().cache).toBeNull()
    expect(layer.explain(1).cache).toBeNull()
    expect((await layer.forward(ROW)).work).not.toHaveProperty('fetchedBytes')
  })

  it('refuses less than one expert more than a token has, and says how much it takes', async () => {
    const least = await bytesOf(expected.topK + 1)
    await expect(load(GOLDEN.directory, { hostBytes: least - 1 })).rejects.toMatchObject({
      code: 'ERR_MOE_CACHE_TOO_SMALL',
      message: expect.stringContaining('hostBytes'),
      details: { neededBytes: least, cacheBytes: least - 1 },
    })
    const layer = await load(GOLDEN.directory, { hostBytes: least })
    expect(layer.stats().cache).toMatchObject({ slots: expected.topK + 1, ringSlots: 0, readers: 2 })
    const fixed = await load(GOLDEN.directory, { hostBytes: least, policy: 'static' })
    expect(fixed.stats().cache).toMatchObject({ slots: expected.topK, ringSlots: 1 })
  })

  it('holds what it was given, and not what the checkpoint has', async () => {
    const whole = await load(GOLDEN.directory, { hostBytes: 2 ** 40 })
    const layer = await load(GOLDEN.directory, { hostBytes: await bytesOf(expected.topK + 1) })
    const left = whole.config.numExperts - (expected.topK + 1)
    expect(left).toBeGreaterThan(0)
    const saved = left * layer.stats().cache!.expertBytes
    expect(whole.stats().hostBytes - layer.stats().hostBytes).toBe(saved)
    expect(whole.explain(1).residentBytes - layer.explain(1).residentBytes).toBe(saved)
  })

  it('counts, and gives each call its bytes', async () => {
    const layer = await load(GOLDEN.directory, { hostBytes: await bytesOf(expected.topK + 1) })
    const { topK } = expected
    const first = await layer.forward(ROW)
    const second = layer.forwardSync(ROW)
    expect(second.work.fetchedBytes).toBe(0)
    const { hits, misses, bytesRead, waitNs } = layer.stats().cache!
    expect([hits, misses]).toEqual([topK, topK])
    expect(first.work.fetchedBytes).toBe(bytesRead)
    expect(bytesRead).toBeGreaterThan(0)
    expect(waitNs).toBeGreaterThan(0)
    expect(second.output).toEqual(first.output)
    layer.dispose()
    expect(layer.stats().cache).toBeNull()
  })

  it.each(['lru', 'lfu', 'lfru', 'static'] as const)('policy %s gives the same bits', async policy => {
    const resident = await load(GOLDEN.directory)
    const layer = await load(GOLDEN.directory, {
      hostBytes: await bytesOf(expected.topK + 2),
      policy,
      readers: 3,
      directIo: 'off',
    })
    expect(layer.stats().cache!.directIo).toBe(false)
    for (const rows of [INPUT, ROW, INPUT])
      expect((await layer.forward(rows)).output).toEqual((await resident.forward(rows)).output)
  })

  it('begins with the experts that a profile met most, and the same bits', async () => {
    const resident = await load(GOLDEN.directory)
    const trace = path.join(mkdtempSync(path.join(tmpdir(), 'sparse-experts-profile-')), 'trace')
    directories.push(path.dirname(trace))
    {
      await using _recorder = resident.record(trace)
      await resident.forward(ROW)
    }
    const hostBytes = await bytesOf(expected.topK + 1)
    for (const policy of ['lru', 'static'] as const) {
      const layer = await load(GOLDEN.directory, { hostBytes, policy, profile: trace })
      const { work } = await layer.forward(ROW)
      expect(work.fetchedBytes).toBe(0)
      expect(layer.stats().cache).toMatchObject({ hits: expected.topK, misses: 0, bytesRead: 0 })
      for (const rows of [INPUT, ROW, INPUT])
        expect((await layer.forward(rows)).output).toEqual((await resident.forward(rows)).output)
    }
    await expect(load(GOLDEN.directory, { hostBytes, profile: 'nowhere' })).rejects.toMatchObject({
      code: 'ERR_MOE_IO',
    })
  })

  it('a file that is cut fails the calls that need it, with its name, and serves on once it is whole', async () => {
    const { directory, files } = copied()
    const { numExperts } = (await load(directory)).config
    const layer = await load(directory, { hostBytes: await bytesOf(numExperts - 1) })
    const known = await layer.forward(ROW)
    for (const file of files) truncateSync(file, 100)
    const failing = layer.forward(INPUT)
    await expect(failing).rejects.toMatchObject({ code: 'ERR_MOE_IO' })
    await expect(failing).rejects.toThrow(directory)
    expect(layer.health()).toEqual({ status: 'ready' })
    expect((await layer.forward(ROW)).output).toEqual(known.output)
    expect(() => layer.forwardSync(INPUT)).toThrow(/ends before/)
    expect(layer.stats().failedCalls).toBe(2)
  })

  const keepsOpenFiles = skippedOnWindows('an expert file that is replaced', 'an open file keeps its name')
  it.skipIf(keepsOpenFiles)(
    'a file that was written to is refused; one that another replaced by name is read on',
    async () => {
      const { directory, files } = copied()
      const hostBytes = await bytesOf(expected.topK + 1)
      const output = (await (await load(directory)).forward(INPUT)).output
      const layer = await load(directory, { hostBytes })
      for (const file of files) {
        copyFileSync(file, `${file}.other`)
        truncateSync(`${file}.other`, 10)
        renameSync(`${file}.other`, file)
      }
      expect((await layer.forward(INPUT)).output).toEqual(output)

      const other = copied()
      const changed = await load(other.directory, { hostBytes })
      for (const file of other.files) utimesSync(file, 1, 1)
      await expect(changed.forward(INPUT)).rejects.toThrow(/has changed/)
    },
  )

  it('an abort settles a call that waits for experts, and the next one is whole', async () => {
    const resident = await load(GOLDEN.directory)
    const layer = await load(GOLDEN.directory, { hostBytes: await bytesOf(expected.topK + 1) })
    await expectAbortsToSettle(layer, resident, INPUT, 8)
  })

  it('calls that wait run as one here too', async () => {
    const resident = await load(GOLDEN.directory)
    const layer = await load(GOLDEN.directory, { hostBytes: await bytesOf(expected.topK + 1) })
    const rows = Array.from({ length: expected.numTokens }, (_, t) =>
      INPUT.slice(t * expected.hiddenSize, (t + 1) * expected.hiddenSize),
    )
    const results = await Promise.all(rows.map(row => layer.forward(row)))
    for (const [t, { output }] of results.entries())
      expect(output).toEqual((await resident.forward(rows[t]!)).output)
    const sum = results.reduce((total, { work }) => total + work.fetchedBytes!, 0)
    expect(sum).toBe(layer.stats().cache!.bytesRead)
  })
})
