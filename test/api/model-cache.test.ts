/** The option `cache` of a model: layers that share host memory for their experts, with the bits of layers that are whole in memory. */

import path from 'node:path'
import { setTimeout } from 'node:timers/promises'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { CACHE_POLICIES, CACHE_SCOPES } from '../../lib/block/expert-cache.js'
import { MoeModel, simulate } from '../../lib/index.js'
import { Random } from '../cases/random.js'
import {
  CONFIG,
  HIDDEN,
  removeCheckpoints,
  temporaryDirectory,
  writeThreeLayers,
} from '../helpers/checkpoint-tiny.js'
import { nativeDevices } from '../helpers/devices.js'

const LAYERS = [1, 2, 3]
const NUM_EXPERTS = CONFIG.n_routed_experts
let directory: string

beforeAll(async () => {
  directory = await writeThreeLayers()
})
afterAll(removeCheckpoints)

const rows = (count: number, seed: number) => new Random(seed).normals(count * HIDDEN)

/** Bytes that so many experts of each layer take. */
async function bytesOf(experts: number): Promise<number> {
  await using model = await MoeModel.load(directory, { device: 'cpu', cache: { hostBytes: 2 ** 40 } })
  return LAYERS.length * experts * model.layer(1).stats().cache!.expertBytes
}

it('is refused where experts lie in the memory of a device, before anything is read', async () => {
  const options = { device: ['reference'], cache: { hostBytes: 2 ** 40 } } as const
  const refused = { code: 'ERR_MOE_UNSUPPORTED_OPTION', details: { option: 'cache', device: 'reference' } }
  await expect(MoeModel.load(directory, options)).rejects.toMatchObject(refused)
  await expect(MoeModel.plan(directory, options)).rejects.toMatchObject(refused)
})

describe.skipIf(!nativeDevices.includes('cpu'))('on cpu', () => {
  it.each(CACHE_POLICIES.flatMap(policy => CACHE_SCOPES.map(scope => [policy, scope] as const)))(
    '%s by %s gives the bits of the model that is whole in memory, and the simulated counts',
    async (policy, scope) => {
      await using whole = await MoeModel.load(directory, { device: 'cpu' })
      const cache = { hostBytes: await bytesOf(NUM_EXPERTS - 1), policy, scope }
      await using model = await MoeModel.load(directory, { device: 'cpu', cache })
      const trace = path.join(temporaryDirectory(), 'trace')
      const recorder = model.record(trace)
      for (let step = 0; step < 12; step++) {
        const hidden = rows(step % 4 === 3 ? 9 : 1, step)
        for (const index of LAYERS) {
          const [of, by] = [await model.forward(index, hidden), await whole.forward(index, hidden)]
          expect(of.output).toEqual(by.output)
          expect(of.topkIds).toEqual(by.topkIds)
        }
      }
      await recorder.close()
      const { cache: counted, layers } = model.stats()
      expect(whole.stats().cache).toBeNull()
      const sum = (name: 'hits' | 'misses' | 'bytesRead') =>
        LAYERS.reduce((total, index) => total + layers[index]!.cache![name], 0)
      expect(counted).toMatchObject({ hits: sum('hits'), misses: sum('misses'), bytesRead: sum('bytesRead') })
      expect(counted!.misses).toBeGreaterThan(0)
      const { hits, misses, evictions } = await simulate(trace, { cache })
      expect(counted).toMatchObject({ hits, misses, evictions })
    },
  )

  it('reads ahead what a simulation expects, where it comes in time, and changes no bit', async () => {
    await using whole = await MoeModel.load(directory, { device: 'cpu' })
    const cache = { hostBytes: await bytesOf(NUM_EXPERTS - 1), prefetch: 'affinity' } as const
    const hidden = rows(1, 90)
    // Experts in which each pair is followed by one of its own.
    const pairs = ['01', '23', '02', '13', '03', '12'].map(pair => Array.from(pair, Number))
    const routingOf = (step: number, index: number) => ({
      topkIds: Int32Array.from(pairs[(step + 2 * index) % pairs.length]!),
      topkWeights: Float32Array.of(0.75, 0.5),
    })
    const attempt = async (pauseMs: number) => {
      await using model = await MoeModel.load(directory, { device: 'cpu', cache })
      const trace = path.join(temporaryDirectory(), 'trace')
      const recorder = model.record(trace)
      for (let step = 0; step < 24; step++)
        for (const index of LAYERS) {
          const routing = routingOf(step, index)
          const { output } = await model.forward(index, hidden, { routing })
          expect(output).toEqual((await whole.forward(index, hidden, { routing })).output)
          await setTimeout(pauseMs)
        }
      await recorder.close()
      const off = await simulate(trace, { cache: { hostBytes: cache.hostBytes } })
      return { counted: model.stats().cache!, simulated: await simulate(trace, { cache }), off }
    }
    // Where a call came before what was read for it, the machine is slow or busy: another try with more time between calls.
    let { counted, simulated, off } = await attempt(2)
    for (let pauseMs = 4; counted.prefetchDropped > 0 && pauseMs < 2000; pauseMs *= 2)
      ({ counted, simulated, off } = await attempt(pauseMs))
    const { hits, misses, evictions, prefetched, prefetchUsed, prefetchWasted } = simulated
    expect(counted).toMatchObject({ hits, misses, evictions, prefetched, prefetchUsed, prefetchWasted })
    expect(counted.prefetchDropped).toBe(0)
    expect(prefetchUsed).toBeGreaterThan(10)
    expect(counted.bytesPrefetched).toBeGreaterThan(0)
    expect(hits).toBeGreaterThan(off.hits)
  })

  it.each([
    [{ prefetch: 'router' }, 'ERR_MOE_INVALID_ARG_VALUE'],
    [{ prefetchBytesPerCall: 0 }, 'ERR_MOE_INVALID_ARG_VALUE'],
    [{ prefetchBytesPerCall: '1' }, 'ERR_MOE_INVALID_ARG_TYPE'],
  ])('refuses %j', async (wrong, code) => {
    const options = { device: 'cpu', cache: { hostBytes: 2 ** 30, ...wrong } } as never
    await expect(MoeModel.load(directory, options)).rejects.toMatchObject({ code })
  })

  it('layers that share slots go one by one, and calls of the others go on', async () => {
    await using whole = await MoeModel.load(directory, { device: 'cpu' })
    const cache = { hostBytes: await bytesOf(NUM_EXPERTS - 1), scope: 'model' } as const
    await using model = await MoeModel.load(directory, { device: 'cpu', cache })
    const calls: Promise<void>[] = []
    for (let step = 0; step < 30; step++) {
      if (step === 10) model.layer(1).dispose()
      const hidden = rows(1 + (step % 5), 70 + step)
      for (const index of step < 10 ? LAYERS : [2, 3])
        calls.push(
          Promise.all([model.forward(index, hidden), whole.forward(index, hidden)]).then(([of, by]) =>
            expect(of.output).toEqual(by.output),
          ),
        )
    }
    await Promise.all(calls)
    expect(model.stats().layers[2]!.cache!.misses).toBeGreaterThan(0)
  })

  it('takes what the plan said, to the byte, and less than the whole model', async () => {
    const options = { device: 'cpu', cache: { hostBytes: await bytesOf(NUM_EXPERTS - 1) } } as const
    const plan = await MoeModel.plan(directory, options)
    const whole = await MoeModel.plan(directory, { device: 'cpu' })
    await using model = await MoeModel.load(directory, options)
    expect(plan.fits).toBe(true)
    for (const [i, { index, hostBytes }] of plan.layers.entries()) {
      expect(model.layer(index).stats().hostBytes).toBe(hostBytes)
      expect(whole.layers[i]!.hostBytes - hostBytes).toBe(options.cache.hostBytes / LAYERS.length / 3)
    }
  })

  it('refuses less than a token needs in each layer, and takes as much as it then says', async () => {
    const least = await bytesOf(CONFIG.num_experts_per_tok + 1)
    const refusal = {
      code: 'ERR_MOE_CACHE_TOO_SMALL',
      details: { neededBytes: least, cacheBytes: least - 1, layer: 1 },
    }
    const options = (hostBytes: number) => ({ device: 'cpu', cache: { hostBytes } }) as const
    await expect(MoeModel.plan(directory, options(least - 1))).rejects.toMatchObject(refusal)
    await expect(MoeModel.load(directory, options(least - 1))).rejects.toMatchObject(refusal)
    await using model = await MoeModel.load(directory, options(least))
    expect((await model.forward(2, rows(1, 5))).numTokens).toBe(1)
  })

  it('counts what a simulation of its own trace predicts', async () => {
    const trace = path.join(temporaryDirectory(), 'trace')
    const cache = { hostBytes: await bytesOf(NUM_EXPERTS - 1) }
    await using model = await MoeModel.load(directory, { device: 'cpu', cache })
    {
      await using _recorder = model.record(trace)
      for (let step = 0; step < 20; step++)
        for (const index of LAYERS) await model.forward(index, rows(1 + (step % 3), step))
    }
    const { hits, misses, evictions } = await simulate(trace, { cache })
    expect(model.stats().cache).toMatchObject({ hits, misses, evictions })
  })

  it('begins with what a profile of these layers met, as the simulation does', async () => {
    const [profile, trace] = [0, 1].map(i => path.join(temporaryDirectory(), `trace${i}`)) as [string, string]
    {
      await using whole = await MoeModel.load(directory, { device: 'cpu' })
      await using _recorder = whole.record(profile)
      for (const index of LAYERS) await whole.forward(index, rows(2, 40 + index))
    }
    const all = await bytesOf(NUM_EXPERTS - 1)
    // Two of the three layers share.
    const cache = { hostBytes: (all * 2) / 3, profile }
    await using model = await MoeModel.load(directory, { device: 'cpu', cache, layers: [3, 1] })
    {
      await using _recorder = model.record(trace)
      for (let step = 0; step < 8; step++)
        for (const index of [1, 3]) await model.forward(index, rows(1, step))
    }
    const { hits, misses, evictions } = await simulate(trace, { cache })
    expect(model.stats().cache).toMatchObject({ hits, misses, evictions })
    await expect(
      MoeModel.load(directory, { device: 'cpu', cache: { hostBytes: all, profile: trace } }),
    ).rejects.toMatchObject({
      code: 'ERR_MOE_INVALID_ARG_VALUE',
      message: expect.stringContaining('layer 2 with 2 of 4'),
    })
  })
})
