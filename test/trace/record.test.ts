/** Recordings of layers: what forwards did, call by call, and what becomes of files that cannot be written. */

import { mkdir, readdir, writeFile } from 'node:fs/promises'
import path from 'node:path'
import { afterAll, afterEach, describe, expect, it } from 'vitest'
import { toFloat32 } from '../../lib/block/dtype.js'
import { type LayerOptions, type MoeLayer, MoeModel, readTrace } from '../../lib/index.js'
import { nativeDevices } from '../helpers/devices.js'
import { removeDirectories, temporaryDirectory } from '../helpers/scratch.js'
import { tinyCase, tinyLayer } from '../helpers/tiny-layer.js'

const made: MoeLayer[] = []
afterEach(() => {
  for (const layer of made.splice(0)) layer.dispose()
})
afterAll(removeDirectories)

const { hiddenSize, numExperts, topK } = tinyCase.config as Record<
  'hiddenSize' | 'numExperts' | 'topK',
  number
>
function makeLayer(options: LayerOptions): MoeLayer {
  const { layer } = tinyLayer(options)
  made.push(layer)
  return layer
}
/** `[rows, hiddenSize]`, other numbers for each seed. */
const hidden = (rows: number, seed: number) =>
  Float32Array.from({ length: rows * hiddenSize }, (_, i) => Math.sin(i * (seed + 1.7)))

describe.each([...nativeDevices, 'reference'])('on %s', device => {
  it('each forward is a call, with its ids and weights in order', async () => {
    const layer = makeLayer({ device, coalesce: false })
    const directory = path.join(await temporaryDirectory(), 'new', 'trace')
    await layer.forward(hidden(2, 0))
    const recorder = layer.record(directory, { weights: true })
    const results = [
      await layer.forward(hidden(3, 1)),
      layer.forwardSync(hidden(1, 2)),
      await layer.forward(hidden(0, 3)),
      await layer.forward(hidden(2, 4), { topK: Uint8Array.of(1, 0) }),
      await layer.forward(hidden(4, 5), { topP: 0.5 }),
    ]
    const { topkIds, topkWeights } = results[0]!
    results.push(await layer.forward(hidden(3, 6), { routing: { topkIds, topkWeights } }))
    expect(recorder.calls).toBe(5)
    expect(recorder.bytes).toBeGreaterThan(0)
    await recorder.close()
    await recorder.close()
    await layer.forward(hidden(2, 7))

    const trace = await readTrace(directory)
    expect(trace.layers).toEqual([
      expect.objectContaining({ layer: 0, numExperts, topK, dtype: layer.dtype }),
    ])
    expect([...trace.calls.rows]).toEqual([3, 1, 2, 4, 3])
    const ids = results.flatMap(result => [...result.topkIds])
    expect([...trace.topkIds[0]!]).toEqual(ids.map(id => (id < 0 ? 255 : id)))
    const weights = results.flatMap(result => [...result.topkWeights])
    const recorded = toFloat32(trace.topkWeights![0]!, 'f16')
    // An f16 has 11 bits.
    for (const [slot, weight] of weights.entries())
      expect(Math.abs(recorded[slot]! - weight)).toBeLessThanOrEqual(Math.abs(weight) * 2 ** -11)
    expect([...trace.calls.micros].every((time, call, all) => call === 0 || time >= all[call - 1]!)).toBe(
      true,
    )
  })

  it('a row without finite logits has no expert', async () => {
    const layer = makeLayer({ device })
    const directory = await temporaryDirectory()
    const recorder = layer.record(directory)
    const rows = hidden(2, 1).fill(Number.NaN, 0, hiddenSize)
    const { topkIds, work } = await layer.forward(rows)
    await recorder.close()
    const { topkIds: recorded } = await readTrace(directory)
    expect([...recorded[0]!]).toEqual([...Array(topK).fill(255), ...topkIds.subarray(topK)])
    expect(work.expertTokens.reduce((a, b) => a + b)).toBe(topK)
  })

  it('calls that failed or were aborted are not in it', async () => {
    const layer = makeLayer({ device })
    const directory = await temporaryDirectory()
    await using recorder = layer.record(directory)
    await expect(layer.forward(new Float32Array(1))).rejects.toThrow()
    await expect(layer.forward(hidden(1, 1), { signal: AbortSignal.abort() })).rejects.toThrow()
    expect(recorder.calls).toBe(0)
  })
})

it('waiting calls that ran as one are one call', async () => {
  const layer = makeLayer({ device: 'cpu' })
  const directory = await temporaryDirectory()
  const recorder = layer.record(directory)
  const calls = 400
  await Promise.all(Array.from({ length: calls }, (_, i) => layer.forward(hidden(1, i))))
  await recorder.close()
  const { batches } = layer.stats()
  const trace = await readTrace(directory)
  expect(trace.numRows).toBe(calls)
  expect(trace.numCalls).toBe(batches)
})

it('a model records all of its layers in one trace, in the order of the calls', async () => {
  const checkpoint = path.join(import.meta.dirname, '../../examples/tiny-deepseek/model')
  await using model = await MoeModel.load(checkpoint, { device: 'reference', layers: [1, 2, 3] })
  const width = model.layer(1).config.hiddenSize
  const directory = await temporaryDirectory()
  const ids: number[][] = [[], [], []]
  {
    await using recorder = model.record(directory)
    for (const [step, layer] of [3, 1, 2, 1].entries()) {
      const states = Float32Array.from({ length: (1 + step) * width }, (_, i) => Math.cos(i * (step + 2)))
      ids[layer - 1]!.push(...(await model.forward(layer, states)).topkIds)
    }
    expect(recorder.calls).toBe(4)
  }
  const trace = await readTrace(directory)
  expect(trace.layers.map(({ layer }) => layer)).toEqual([1, 2, 3])
  expect([...trace.calls.layer]).toEqual([2, 0, 1, 0])
  expect([...trace.calls.rows]).toEqual([1, 2, 3, 4])
  expect(trace.topkIds.map(own => [...own])).toEqual(ids)
  model.dispose()
  expect(() => model.record('d')).toThrow(expect.objectContaining({ code: 'ERR_MOE_DISPOSED' }))
})

describe('the recorder', () => {
  it('ends at maxBytes, between two calls, and says so', async () => {
    const layer = makeLayer({ device: 'reference' })
    const directory = await temporaryDirectory()
    const recorder = layer.record(directory, { maxBytes: 100 })
    const counted: number[] = []
    for (let call = 0; call < 6; call++) {
      await layer.forward(hidden(1, call))
      counted.push(recorder.calls)
    }
    await recorder.close()
    // A call is 32 bytes and a byte for each of three ids.
    expect(counted).toEqual([1, 2, 3, 3, 3, 3])
    expect(recorder.isFull).toBe(true)
    expect((await readTrace(directory)).numCalls).toBe(3)
  })

  it('does not write over a trace', async () => {
    const layer = makeLayer({ device: 'reference' })
    const directory = await temporaryDirectory()
    await layer.record(directory).close()
    expect(await readdir(directory)).toEqual(['segment-00000.safetensors'])
    expect(() => layer.record(directory)).toThrow(
      expect.objectContaining({ code: 'ERR_MOE_INVALID_ARG_VALUE' }),
    )
  })

  it('tells at once that a directory cannot be made', async () => {
    const layer = makeLayer({ device: 'reference' })
    const file = path.join(await temporaryDirectory(), 'file')
    await writeFile(file, '')
    expect(() => layer.record(file)).toThrow(expect.objectContaining({ code: 'ERR_MOE_IO' }))
    // Longer than a name may be on any system.
    const long = path.join(path.dirname(file), 'x'.repeat(1000))
    expect(() => layer.record(long)).toThrow(expect.objectContaining({ code: 'ERR_MOE_IO' }))
    expect(() => layer.record(path.join(file, 'below'))).toThrow(
      expect.objectContaining({ code: 'ERR_MOE_IO' }),
    )
  })

  it('fails no forward where a file cannot be written, but its own end', async () => {
    const layer = makeLayer({ device: 'reference' })
    const directory = await temporaryDirectory()
    const recorder = layer.record(directory)
    // What is in the way of the file.
    await mkdir(path.join(directory, 'segment-00000.safetensors.partial'))
    await layer.forward(hidden(1, 1))
    await expect(recorder.close()).rejects.toMatchObject({ code: 'ERR_MOE_IO' })
    await layer.forward(hidden(1, 2))
  })

  it.each<[unknown[], string]>([
    [[1], 'ERR_MOE_INVALID_ARG_TYPE'],
    [['d', { weights: 1 }], 'ERR_MOE_INVALID_ARG_TYPE'],
    [['d', { maxBytes: 0 }], 'ERR_MOE_INVALID_ARG_VALUE'],
    [['d', { maxbytes: 1 }], 'ERR_MOE_UNKNOWN_OPTION'],
    [['d', null], 'ERR_MOE_INVALID_ARG_TYPE'],
  ])('refuses %j', (args, code) => {
    const layer = makeLayer({ device: 'reference' })
    expect(() => layer.record(...(args as Parameters<MoeLayer['record']>))).toThrow(
      expect.objectContaining({ code }),
    )
  })

  it('is not to be had of a disposed layer', () => {
    const layer = makeLayer({ device: 'reference' })
    layer.dispose()
    expect(() => layer.record('d')).toThrow(expect.objectContaining({ code: 'ERR_MOE_DISPOSED' }))
  })
})
