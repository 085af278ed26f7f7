/** What `plan` and `simulate` say of a cache on a GPU is what the layers there take, and count. */

import path from 'node:path'
import { afterAll, expect, it } from 'vitest'
import { CACHE_POLICIES } from '../../lib/block/expert-cache.js'
import { type DeviceOption, type ModelPlan, MoeModel, readTrace, simulate } from '../../lib/index.js'
import { Random } from '../cases/random.js'
import {
  CONFIG,
  EXPERTS,
  HIDDEN,
  removeCheckpoints,
  temporaryDirectory,
  writeThreeLayers,
} from '../helpers/checkpoint-tiny.js'
import { describeCuda } from '../helpers/cuda.js'
import { runInProcess } from '../helpers/run-in-process.js'

afterAll(removeCheckpoints)

/** Steps of all layers: mostly a row, now and then as many as make a call need all experts. */
async function run(model: MoeModel): Promise<void> {
  for (let step = 0; step < 12; step++)
    for (const index of model.layers)
      await model.forward(index, new Random(step).normals((step % 6 === 4 ? 8 : 1) * HIDDEN))
}

describeCuda('two memories', device => {
  const options = { device: device as DeviceOption, dtype: 'f32', maxTokens: 16 } as const

  it.each(CACHE_POLICIES)('%s: predicted counts are counted', async policy => {
    const directory = await writeThreeLayers()
    const { layers } = await MoeModel.plan(directory, options)
    const share = layers.length * layers[0]!.expertBytes
    const cache = { deviceBytes: (CONFIG.num_experts_per_tok + 1) * share, hostBytes: 3 * share, policy }
    await using model = await MoeModel.load(directory, { ...options, cache })
    const trace = path.join(temporaryDirectory(), 'trace')
    {
      await using _recorder = model.record(trace)
      await run(model)
    }
    const simulation = await simulate(await readTrace(trace), { cache })
    const { hits, misses, hostHits, evictions } = simulation
    expect(model.stats().cache).toMatchObject({ hits, misses, hostHits, evictions })
    expect(Math.min(hits, hostHits, misses - hostHits)).toBeGreaterThan(0)
    for (const { layer, slots, hostSlots } of simulation.perLayer)
      expect(model.layer(layer).stats().cache).toMatchObject({ slots, hostSlots })
  })

  it('plan finds the cache that fits both, and says what it counts', async () => {
    const directory = await writeThreeLayers()
    const whole = await MoeModel.plan(directory, options)
    const share = whole.layers.length * whole.layers[0]!.expertBytes
    const trace = path.join(temporaryDirectory(), 'trace')
    {
      await using model = await MoeModel.load(directory, options)
      await using _recorder = model.record(trace)
      await run(model)
    }
    const needs = (plan: ModelPlan, name: string) =>
      plan.memory.find(({ memory }) => memory === name)!.neededBytes
    const all = { deviceBytes: 2 ** 40, hostBytes: 2 ** 40 }
    const most = await MoeModel.plan(directory, { ...options, cache: all })
    // One expert of each layer less than all on the GPU, two less on the host.
    const memories = [
      ...['--device-memory', String(needs(most, device) - share)],
      ...['--memory', String(needs(most, 'host') - 2 * share)],
    ]
    const held = ['--device', device, '--dtype', 'f32', '--max-tokens', '16']
    const command = ['plan', directory, ...held, ...memories, '--trace', trace]
    const report = JSON.parse((await runInProcess([...command, '--json'])).stdout)
    expect(report.error).toBeUndefined()
    expect(report.options.cache).toEqual({
      deviceBytes: (EXPERTS - 1) * share,
      hostBytes: (EXPERTS - 2) * share,
    })
    expect(needs(report.cached, device)).toBe(needs(most, device) - share)
    expect(needs(report.cached, 'host')).toBe(needs(most, 'host') - 2 * share)
    await using model = await MoeModel.load(directory, report.options)
    await run(model)
    const [{ hits, misses, hostHits, evictions }] = report.simulations
    expect(model.stats().cache).toMatchObject({ hits, misses, hostHits, evictions })

    const rates = ['--disk', '1GB/s', '--copy', '1kB/s', '--experts', '10GB/s']
    const { stdout, status } = await runInProcess([...command, ...rates])
    expect(status).toBe(0)
    expect(stdout).toContain(`75 % of the experts on ${device}`)
    expect(stdout).toContain("50 % of the experts in the host's memory")
    expect(stdout).toMatch(/cache: \{ deviceBytes: \d+, hostBytes: \d+ \}/)
    expect(stdout).toMatch(/lru .* {2}copy$/m)
  })

  it('plan needs no memory of the host for experts, and refuses what nothing runs in', async () => {
    const directory = await writeThreeLayers()
    const cache = { deviceBytes: 2 ** 40 }
    const { memory, layers } = await MoeModel.plan(directory, { ...options, cache })
    const needed = (name: string) => memory.find(({ memory }) => memory === name)!.neededBytes
    const share = layers.length * layers[0]!.expertBytes
    const plan = async (deviceMemory: number, hostMemory: number) => {
      const held = ['--device', device, '--dtype', 'f32', '--max-tokens', '16', '--json']
      const memories = ['--device-memory', String(deviceMemory), '--memory', String(hostMemory)]
      return JSON.parse((await runInProcess(['plan', directory, ...held, ...memories])).stdout)
    }
    const { options: alone } = await plan(needed(device) - share, needed('host'))
    expect(alone.cache).toEqual({ deviceBytes: (EXPERTS - 1) * share })
    const spare = EXPERTS - (CONFIG.num_experts_per_tok + 1)
    const least = needed(device) - spare * share
    expect((await plan(least - 1, 2 ** 40)).error).toMatchObject({ code: 'ERR_MOE_OUT_OF_MEMORY' })
    expect((await plan(least - 1, 2 ** 40)).error.message).toContain(`Give them ${least}`)
    expect((await plan(least, needed('host') - 1)).error.message).toContain('of the host')
  })

  it.each([
    [['--measure'], /--measure times calls on cpu/],
    [['--prefetch', 'affinity'], /not read ahead/],
  ])('plan refuses %j', async (args, message) => {
    const directory = await writeThreeLayers()
    const { status, stderr } = await runInProcess(['plan', directory, '--device', device, ...args])
    expect(stderr).toMatch(message)
    expect(status).toBe(2)
  })
})
