/** What `MoeLayer.load` promises besides the numbers (those: test/golden): choice of layer, errors, progress, abort, a free event loop. */

import { cp, mkdtemp, readFile, rm, truncate, writeFile } from 'node:fs/promises'
import os from 'node:os'
import path from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { writeCheckpoint } from '../../examples/demo/write-checkpoint.js'
import { type LoadProgress, MoeLayer } from '../../lib/index.js'
import { BOUNDS } from '../cases/index.js'
import { Random } from '../cases/random.js'
import { allDevices, nativeDevices } from '../helpers/devices.js'
import { turnsUntil, withClock } from '../helpers/liveness.js'
import { expectClose } from '../helpers/relative-error.js'

const golden = (name: string) => path.join(import.meta.dirname, '../golden/cases', name)
const code = (value: string) => expect.objectContaining({ code: value })

let scratch: string
/** DeepSeek-V3's layout, fp8, some 5 MB. */
let checkpoint: string

beforeAll(async () => {
  scratch = await mkdtemp(path.join(os.tmpdir(), 'sparse-experts-load-'))
  checkpoint = path.join(scratch, 'checkpoint')
  await writeCheckpoint(checkpoint, {
    hiddenSize: 512,
    moeIntermediateSize: 208,
    numExperts: 16,
    topK: 4,
    numGroups: 4,
    topkGroup: 2,
    intermediateSize: 512,
    numShards: 3,
  })
})

afterAll(() => rm(scratch, { recursive: true, force: true }))

/** A copy of a golden checkpoint that a test may spoil. */
async function copyOf(name: string): Promise<string> {
  const directory = await mkdtemp(path.join(scratch, `${name}-`))
  await cp(golden(name), directory, { recursive: true })
  return directory
}

async function editConfig(directory: string, edit: (config: Record<string, unknown>) => void): Promise<void> {
  const file = path.join(directory, 'config.json')
  const config = JSON.parse(await readFile(file, 'utf8'))
  edit(config)
  await writeFile(file, JSON.stringify(config))
}

describe.each(allDevices)('load on %s', device => {
  const options = { device: device as 'cpu' }

  it('takes the first layer with experts, and the asked dtype', async () => {
    await using layer = await MoeLayer.load(checkpoint, options)
    expect(layer.dtype).toBe('bf16')
    expect(layer.config).toMatchObject({
      family: 'deepseek_v3',
      hiddenSize: 512,
      intermediateSize: 208,
      numExperts: 16,
      topK: 4,
      numExpertGroups: 4,
      topkGroup: 2,
      groupScore: 'top2_sum',
      scoringFunc: 'sigmoid',
      normTopkProb: true,
      routedScalingFactor: 2.5,
      numSharedExperts: 1,
      activation: 'silu',
    })
    await using asked = await MoeLayer.load(checkpoint, { ...options, layer: 1, dtype: 'f32' })
    expect(asked.dtype).toBe('f32')
    const hidden = new Random(1).normals(3 * 512)
    const [bf16, f32] = [await layer.forward(hidden), await asked.forward(hidden)]
    expectClose(bf16.output, f32.output, 2 * BOUNDS.bf16)
  })

  it('reports progress up to the total and never backwards', async () => {
    const seen: LoadProgress[] = []
    const layer = await MoeLayer.load(checkpoint, {
      ...options,
      onProgress: progress => seen.push({ ...progress }),
    })
    layer.dispose()
    expect(seen.length).toBeGreaterThan(2)
    seen.forEach((progress, i) => {
      expect(progress.totalBytes).toBe(seen[0]!.totalBytes)
      if (i > 0) expect(progress.loadedBytes).toBeGreaterThanOrEqual(seen[i - 1]!.loadedBytes)
    })
    expect(seen.at(-1)!.loadedBytes).toBe(seen[0]!.totalBytes)
    // One byte a weight: routed and shared experts; scales, router and bias add a little.
    expect(seen[0]!.totalBytes).toBeGreaterThan(17 * 3 * 512 * 208)
    expect(seen[0]!.totalBytes).toBeLessThan(17 * 3 * 512 * 208 * 1.02)
  })

  it('stops when it is aborted before it begins', async () => {
    const reason = new Error('not needed')
    await expect(MoeLayer.load(checkpoint, { ...options, signal: AbortSignal.abort(reason) })).rejects.toBe(
      reason,
    )
  })

  it.each([0, 0.25, 1])('stops when it is aborted with a share of %d loaded', async share => {
    const reason = new Error('not needed')
    const controller = new AbortController()
    let reports = 0
    const loading = MoeLayer.load(checkpoint, {
      ...options,
      signal: controller.signal,
      onProgress: ({ loadedBytes, totalBytes }) => {
        if (controller.signal.aborted) reports++
        if (loadedBytes >= share * totalBytes) controller.abort(reason)
      },
    })
    await expect(loading).rejects.toBe(reason)
    if (device === 'reference') expect(reports).toBe(0)
  })

  // Of native devices: test/devices/load.test.ts.
  it.runIf(device === 'reference')('leaves the event loop free', async () => {
    const loading = MoeLayer.load(golden('olmoe'), options)
    // Every row uses up a slice of time by this clock.
    const turns = await withClock(1e3, () => turnsUntil(loading))
    const { hiddenSize, intermediateSize, numExperts } = (await loading).config
    expect(turns).toBeGreaterThan(numExperts * (2 * intermediateSize + hiddenSize))
  })

  it('refuses a file that ends early, and frees what it had', async () => {
    const directory = await copyOf('olmoe')
    const file = path.join(directory, 'model.safetensors')
    const bytes = await readFile(file)
    await truncate(file, bytes.length - 1)
    await expect(MoeLayer.load(directory, { ...options, layer: 1 })).rejects.toEqual(
      code('ERR_MOE_INVALID_CHECKPOINT'),
    )
  })
})

describe('load refuses with a code', () => {
  it.each([
    ['a directory that is not there', 'nowhere', 'ERR_MOE_IO'],
    ['a dense layer', 'deepseek_v3', 'ERR_MOE_NOT_SPARSE'],
  ])('%s', async (_, name, expected) => {
    await expect(MoeLayer.load(golden(name), { layer: 0 })).rejects.toEqual(code(expected))
  })

  it('a layer beyond the last', async () => {
    await expect(MoeLayer.load(golden('olmoe'), { layer: 99 })).rejects.toEqual(
      code('ERR_MOE_INVALID_ARG_VALUE'),
    )
    await expect(MoeLayer.load(golden('olmoe'), { layer: -1 })).rejects.toBeInstanceOf(RangeError)
    await expect(MoeLayer.load(golden('olmoe'), { layer: '1' as never })).rejects.toBeInstanceOf(TypeError)
  })

  it('an unknown family, with what is near', async () => {
    const directory = await copyOf('olmoe')
    await editConfig(directory, config => {
      config.model_type = 'olmo'
    })
    const error = await MoeLayer.load(directory).catch(e => e)
    expect(error.code).toBe('ERR_MOE_UNSUPPORTED_FAMILY')
    expect(error.message).toContain('olmoe')
  })

  it('a config that the tensors contradict', async () => {
    const directory = await copyOf('olmoe')
    await editConfig(directory, config => {
      config.num_experts = (config.num_experts as number) + 1
    })
    const error = await MoeLayer.load(directory, { layer: 1 }).catch(e => e)
    expect(['ERR_MOE_TENSOR_MISMATCH', 'ERR_MOE_MISSING_TENSOR']).toContain(error.code)
  })

  it('options and arguments of the wrong kind', async () => {
    await expect(MoeLayer.load(1 as never)).rejects.toEqual(code('ERR_MOE_INVALID_ARG_TYPE'))
    await expect(MoeLayer.load(checkpoint, { dtyp: 'f32' } as never)).rejects.toEqual(
      code('ERR_MOE_UNKNOWN_OPTION'),
    )
    await expect(MoeLayer.load(checkpoint, { dtype: 'f64' as never })).rejects.toEqual(
      code('ERR_MOE_INVALID_ARG_VALUE'),
    )
    await expect(MoeLayer.load(checkpoint, { threads: -1 })).rejects.toEqual(
      code('ERR_MOE_INVALID_ARG_VALUE'),
    )
    await expect(MoeLayer.load(checkpoint, { device: 'cuda:97' })).rejects.toEqual(
      code('ERR_MOE_DEVICE_UNAVAILABLE'),
    )
    await expect(MoeLayer.load(checkpoint, { module: 1 as never })).rejects.toEqual(
      code('ERR_MOE_INVALID_ARG_TYPE'),
    )
    await expect(MoeLayer.load(checkpoint, { onProgress: 1 as never })).rejects.toEqual(
      code('ERR_MOE_INVALID_ARG_TYPE'),
    )
  })
})

describe.each(nativeDevices)('a loaded fp8 layer on %s', device => {
  it('equals the reference on the same files', async () => {
    await using layer = await MoeLayer.load(checkpoint, { device: device as 'cpu', dtype: 'f32' })
    await using oracle = await MoeLayer.load(checkpoint, { device: 'reference', dtype: 'f32' })
    const hidden = new Random(2).normals(12 * 1024)
    const result = await layer.forward(hidden)
    const expected = await oracle.forward(hidden, {
      routing: { topkIds: result.topkIds, topkWeights: result.topkWeights },
    })
    expectClose(result.output, expected.output, BOUNDS.f32)
    const free = await oracle.forward(hidden)
    expectClose(result.topkWeights, free.topkWeights, 1e-5)
  })
})
