/** `sparse-experts plan`: what it says of a memory is what a model in that memory takes, and counts. */

import path from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { MoeModel } from '../../lib/index.js'
import { Random } from '../cases/random.js'
import {
  CONFIG,
  EXPERTS,
  HIDDEN,
  removeCheckpoints,
  temporaryDirectory,
  writeThreeLayers,
} from '../helpers/checkpoint-tiny.js'
import { nativeDevices } from '../helpers/devices.js'
import { runInProcess } from '../helpers/run-in-process.js'

const LAYERS = [1, 2, 3]
let directory: string
let trace: string

const plan = (...args: string[]) => runInProcess(['plan', directory, ...args])
/** The report of `--json`. */
const planned = async (...args: string[]) => JSON.parse((await plan(...args, '--json')).stdout)

/** Steps of all layers: mostly a row, now and then as many as make a call need all experts. */
async function run(model: MoeModel): Promise<void> {
  for (let step = 0; step < 40; step++)
    for (const index of LAYERS)
      await model.forward(index, new Random(step).normals((step % 9 === 4 ? 12 : 1) * HIDDEN))
}

describe.skipIf(!nativeDevices.includes('cpu'))('plan', () => {
  beforeAll(async () => {
    directory = await writeThreeLayers()
    trace = path.join(temporaryDirectory(), 'trace')
    await using model = await MoeModel.load(directory, { device: 'cpu' })
    await using _recorder = model.record(trace)
    await run(model)
  })
  afterAll(removeCheckpoints)

  /** Bytes with which all but so many experts of each layer fit. */
  async function memoryWithout(experts: number): Promise<number> {
    const cache = experts > 0 ? { hostBytes: 2 ** 40 } : undefined
    const { memory, layers } = await MoeModel.plan(directory, { device: 'cpu', cache })
    return memory[0]!.neededBytes - LAYERS.length * experts * layers[0]!.expertBytes
  }

  it('has no cache where all experts fit', async () => {
    const memory = String(await memoryWithout(0))
    const report = await planned('--memory', memory, '--trace', trace)
    expect(report).toMatchObject({ cached: null, options: { device: 'cpu' }, simulations: [] })
    expect(report.options).not.toHaveProperty('cache')
    expect((await plan('--memory', memory, '--trace', trace)).stdout).toMatch(/nothing to simulate/)
    expect((await planned()).cached).toBeNull()
  })

  it('says in advance what happens: bytes that are held, hits, misses and evictions', async () => {
    const memory = await memoryWithout(1)
    const report = await planned('--memory', String(memory), '--trace', trace, '--policy', 'lfu')
    expect(report.cached.memory[0].neededBytes).toBe(memory)
    await using model = await MoeModel.load(report.source, {
      ...report.options,
      cache: { ...report.options.cache, policy: 'lfu' },
    })
    await run(model)
    const { cache, hostBytes } = model.stats()
    expect(hostBytes).toBe(report.cached.memory[0].weightBytes)
    const [{ hits, misses, evictions }] = report.simulations
    expect(cache).toMatchObject({ hits, misses, evictions })
    expect(Math.min(hits, misses)).toBeGreaterThan(0)
  })

  it('refuses a memory in which nothing runs, with the least that does', async () => {
    const least = await memoryWithout(EXPERTS - (CONFIG.num_experts_per_tok + 1))
    const { error } = await planned('--memory', String(least - 1))
    expect(error).toMatchObject({ code: 'ERR_MOE_OUT_OF_MEMORY', exitStatus: 1 })
    expect(error.message).toContain(`Give them ${least}`)
    expect((await planned('--memory', String(least))).cached.memory[0].neededBytes).toBe(least)
  })

  it('shows the options to write, the share, hits and times by rates', async () => {
    const memory = String(await memoryWithout(1))
    const { stdout, status } = await plan(
      ...[
        '--memory',
        memory,
        '--trace',
        trace,
        '--disk',
        '1MB/s',
        '--experts',
        '1GB/s',
        '--tokens-per-call',
        '1',
      ],
    )
    expect(status).toBe(0)
    expect(stdout).toMatch(/75 % of the experts .* fits/)
    expect(stdout).toMatch(/MoeModel\.load\(".*", \{ device: 'cpu', cache: \{ hostBytes: \d+ \} \}\)/)
    expect(stdout).toMatch(/lru .* (µs|ms) {2}disk$/m)
    expect(stdout).toContain('belady')
  })

  it('hands on what is read ahead, to the simulation and to the options', async () => {
    const memory = String(await memoryWithout(1))
    const args = ['--memory', memory, '--trace', trace, '--tokens-per-call', '1', '--prefetch', 'affinity']
    const report = await planned(...args)
    expect(report.options.cache.prefetch).toBe('affinity')
    expect(report.simulations[0].prefetched).toBeGreaterThan(0)
    expect((await planned(...args.slice(0, -1), 'off')).options.cache).not.toHaveProperty('prefetch')
  })

  it('measures the rates of this machine', async () => {
    const memory = String(await memoryWithout(1))
    const report = await planned('--memory', memory, '--trace', trace, '--measure', '--readers', '3')
    expect(report.error).toBeUndefined()
    expect(report.rates.disk).toBeGreaterThan(0)
    expect(report.rates.expert).toBeGreaterThan(0)
    expect(report.rates.reads).toBeGreaterThan(0)
    expect(report.options.cache.readers).toBe(3)
    expect(report.simulations[0].secondsPerCall.p50).toBeGreaterThan(0)
  })

  it.each<[string[], number, RegExp]>([
    [['--memory', 'much'], 2, /24GB or 512MiB for --memory/],
    [['--measure', '--disk', '1GB/s', '--experts', '1GB/s'], 2, /Both --measure and --disk/],
    [['--experts', '1GB/s'], 2, /Missing option --disk/],
    [['--readers', '65'], 2, /--readers/],
    [['--policy', 'fifo'], 2, /--policy/],
    [['--trace', 'nowhere'], 1, /ERR_MOE_IO/],
    [['--weights', 'float'], 2, /--weights/],
    [['--device-memory', '8GiB'], 2, /--device-memory says something of a GPU/],
    [['--disk', '1GB/s', '--experts', '1GB/s', '--copy', '1GB/s'], 2, /--copy says something of a GPU/],
  ])('%j ends with status %i', async (args, status, message) => {
    const result = await plan(...args)
    expect(result.stderr).toMatch(message)
    expect(result.status).toBe(status)
  })

  it('refuses a trace of other layers, and names those it needs', async () => {
    const other = path.join(temporaryDirectory(), 'trace')
    await using model = await MoeModel.load(directory, { device: 'cpu', layers: [1] })
    {
      await using _recorder = model.record(other)
      await model.forward(1, new Float32Array(HIDDEN))
    }
    const { stderr, status } = await plan('--trace', other)
    expect(stderr).toMatch(/1 \(2 of 4\), 2 \(2 of 4\), 3 \(2 of 4\)/)
    expect(status).toBe(1)
  })
})
