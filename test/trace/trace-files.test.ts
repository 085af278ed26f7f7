/** Files of traces: what is written is read, in the form that lib/trace/format.ts states, and nothing else passes for a trace. */

import { cp, readdir, readFile, rename, rm, writeFile } from 'node:fs/promises'
import path from 'node:path'
import fc from 'fast-check'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { writeSafetensors } from '../../lib/checkpoint/writer.js'
import { readTrace } from '../../lib/index.js'
import { Random } from '../cases/random.js'
import { removeDirectories, temporaryDirectory } from '../helpers/scratch.js'
import { randomCalls, type StatedCall, statedLayer, writeTrace } from '../helpers/traces.js'
import { binaryMutations, mutate, mutations } from '../hostile/mutations.js'

afterAll(removeDirectories)

const LAYERS = [statedLayer(3, 8, 2), statedLayer(5, 254, 3, 2000), statedLayer(9, 255, 1, 500)]

describe('what was written', () => {
  it.each([false, true])('is read again, from several segments (weights: %s)', async withWeights => {
    const directory = await temporaryDirectory()
    const calls = randomCalls(new Random(1), LAYERS, 200).map((call, i) => ({ ...call, micros: 10 * i }))
    await writeTrace(directory, LAYERS, calls, { segmentBytes: 4000, withWeights })
    expect((await readdir(directory)).length).toBeGreaterThan(3)
    const trace = await readTrace(directory)
    expect(trace.layers).toEqual(LAYERS)
    expect(trace.numCalls).toBe(calls.length)
    expect([...trace.calls.layer]).toEqual(calls.map(({ index }) => index))
    expect([...trace.calls.rows]).toEqual(calls.map(({ rows }) => rows.length))
    expect([...trace.calls.micros]).toEqual(calls.map(({ micros }) => micros))
    for (const index of LAYERS.keys()) {
      const ids = calls.filter(call => call.index === index).flatMap(({ rows }) => rows.flat())
      const none = index < 2 ? 255 : 65_535
      expect([...trace.topkIds[index]!], `layer ${index}`).toEqual(ids.map(id => (id < 0 ? none : id)))
      if (withWeights) expect([...trace.topkWeights![index]!]).toEqual(ids.map(id => id + 1))
    }
    if (!withWeights) expect(trace.topkWeights).toBeNull()
  })

  it('has one call where two ran as one, in one segment', async () => {
    const directory = await temporaryDirectory()
    const row = [[0, 1]]
    const calls: StatedCall[] = [
      { index: 0, rows: row },
      ...Array.from({ length: 5 }, () => ({ index: 0, rows: row, isJoined: true })),
      { index: 0, rows: [...row, ...row] },
    ]
    await writeTrace(directory, [LAYERS[0]!], calls, { segmentBytes: 1 })
    expect(await readdir(directory)).toHaveLength(2)
    expect([...(await readTrace(directory)).calls.rows]).toEqual([6, 2])
  })

  it('is a trace without calls where there were none', async () => {
    const directory = await temporaryDirectory()
    await writeTrace(directory, LAYERS, [])
    expect(await readTrace(directory)).toMatchObject({ numCalls: 0, numRows: 0, layers: LAYERS })
  })

  it('is the documented form', async () => {
    const directory = await temporaryDirectory()
    await writeTrace(directory, LAYERS, [{ index: 2, rows: [[7], [-1]], micros: 42 }])
    const bytes = await readFile(path.join(directory, 'segment-00000.safetensors'))
    const headerBytes = Number(bytes.readBigUInt64LE(0))
    const { __metadata__: metadata, ...tensors } = JSON.parse(bytes.toString('utf8', 8, 8 + headerBytes))
    expect(metadata).toEqual({
      format: 'sparse-experts-trace/1',
      recording: expect.stringMatching(/./),
      segment: '0',
      layers: JSON.stringify(LAYERS),
    })
    expect(
      Object.fromEntries(
        Object.entries<{ dtype: string; shape: number[] }>(tensors).map(([name, { dtype, shape }]) => [
          name,
          `${dtype} ${shape}`,
        ]),
      ),
    ).toEqual({
      calls: 'I64 1,4',
      'layers.3.topk_ids': 'U8 0,2',
      'layers.5.topk_ids': 'U8 0,3',
      'layers.9.topk_ids': 'U16 2,1',
    })
    const data = (name: string) => {
      const [begin, end] = tensors[name].data_offsets
      return bytes.subarray(8 + headerBytes + begin, 8 + headerBytes + end)
    }
    expect([0, 1, 2, 3].map(column => data('calls').readBigInt64LE(8 * column))).toEqual([9n, 0n, 2n, 42n])
    expect([data('layers.9.topk_ids').readUInt16LE(0), data('layers.9.topk_ids').readUInt16LE(2)]).toEqual([
      7, 65_535,
    ])
  })
})

describe('what is no trace', () => {
  let whole: string
  const first = 'segment-00000.safetensors'
  const second = 'segment-00001.safetensors'
  beforeAll(async () => {
    whole = await temporaryDirectory()
    await writeTrace(whole, LAYERS, randomCalls(new Random(2), LAYERS, 40), { segmentBytes: 1500 })
    expect((await readdir(whole)).length).toBeGreaterThan(2)
  })

  const copy = async () => {
    const directory = await temporaryDirectory()
    await cp(whole, directory, { recursive: true })
    return directory
  }
  const invalid = (message: RegExp) =>
    expect.objectContaining({ code: 'ERR_MOE_TRACE_INVALID', message: expect.stringMatching(message) })

  it.each<[string, (directory: string) => Promise<unknown>, RegExp]>([
    [
      'no segment',
      async d => {
        for (const name of await readdir(d)) await rm(path.join(d, name))
      },
      /segment-00000/,
    ],
    ['a missing segment', d => rm(path.join(d, second)), /segment-00001.safetensors is missing/],
    ['a first segment that is missing', d => rm(path.join(d, first)), /segment-00000.safetensors is missing/],
    [
      'two segments that changed places',
      async d => {
        await rename(path.join(d, first), path.join(d, 'x'))
        await rename(path.join(d, second), path.join(d, first))
        await rename(path.join(d, 'x'), path.join(d, second))
      },
      /segment 1, not 0/,
    ],
    [
      'a segment of another recording',
      async d => {
        const other = await temporaryDirectory()
        await writeTrace(other, LAYERS, randomCalls(new Random(2), LAYERS, 40), { segmentBytes: 1500 })
        await cp(path.join(other, second), path.join(d, second))
      },
      /another recording/,
    ],
    ['text', d => writeFile(path.join(d, first), 'not a trace'), /segment-00000/],
  ])('%s', async (_, damage, message) => {
    const directory = await copy()
    await damage(directory)
    await expect(readTrace(directory)).rejects.toEqual(invalid(message))
  })

  it('a path where nothing is', async () => {
    await expect(readTrace(path.join(whole, 'nothing'))).rejects.toMatchObject({ code: 'ERR_MOE_IO' })
  })

  describe('a segment', () => {
    const layer = statedLayer(1, 4, 2)
    const metadata = {
      format: 'sparse-experts-trace/1',
      recording: 'r',
      segment: '0',
      layers: JSON.stringify([layer]),
    }
    interface Contents {
      metadata?: Record<string, unknown>
      calls?: bigint[]
      ids?: number[]
      idsDtype?: string
      more?: { name: string; dtype: string; shape: number[]; data: ArrayBufferView }[]
    }
    const read = async ({ metadata: changed, calls, ids, idsDtype, more }: Contents) => {
      const directory = await temporaryDirectory()
      const table = BigInt64Array.from(calls ?? [1n, 0n, 2n, 0n])
      const list = ids ?? [0, 1, 2, 255]
      const own = idsDtype === 'U16' ? Uint16Array.from(list) : Uint8Array.from(list)
      const tensors = [
        { name: 'calls', dtype: 'I64', shape: [table.length / 4, 4], data: table },
        { name: 'layers.1.topk_ids', dtype: idsDtype ?? 'U8', shape: [list.length / 2, 2], data: own },
        ...(more ?? []),
      ]
      const stated = Object.entries({ ...metadata, ...changed }).filter(([, value]) => value !== undefined)
      await writeSafetensors(path.join(directory, first), tensors, Object.fromEntries(stated) as never)
      return readTrace(directory)
    }
    const layersWith = (change: object) => ({ layers: JSON.stringify([{ ...layer, ...change }]) })

    it('is read where nothing is wrong with it', async () => {
      expect(await read({})).toMatchObject({ numCalls: 1, numRows: 2 })
    })

    it.each<[string, Contents, RegExp]>([
      ['of no format', { metadata: { format: undefined } }, /names no format/],
      ['of a later format', { metadata: { format: 'sparse-experts-trace/2' } }, /trace\/2/],
      ['without a recording', { metadata: { recording: undefined } }, /recording/],
      ['with a number that is none', { metadata: { segment: '-1' } }, /segment/],
      ['without layers', { metadata: { layers: undefined } }, /layers/],
      ['with layers that are no JSON', { metadata: { layers: '[{' } }, /JSON/],
      ['with no layer', { metadata: { layers: '[]' } }, /layers/],
      ['with a layer twice', { metadata: { layers: JSON.stringify([layer, layer]) } }, /twice/],
      ['with a layer of no experts', { metadata: layersWith({ numExperts: 0 }) }, /layer 0/],
      ['with a layer of too many', { metadata: layersWith({ numExperts: 65_536 }) }, /layer 0/],
      ['with a layer without its bytes', { metadata: layersWith({ expertBytes: undefined }) }, /layer 0/],
      ['with a layer that says more', { metadata: layersWith({ width: 3 }) }, /layer 0/],
      ['with another topK', { metadata: layersWith({ topK: 3 }) }, /expected U8 \[rows, 3\]/],
      ['with ids of another width', { idsDtype: 'U16' }, /U16/],
      ['with an id that is none', { ids: [0, 1, 2, 4] }, /expert 4 of 4/],
      ['with an unknown layer', { calls: [2n, 0n, 2n, 0n] }, /no layer 2/],
      ['with a hole between calls', { calls: [1n, 1n, 1n, 0n] }, /row 0 is next/],
      ['with calls that overlap', { calls: [1n, 0n, 1n, 0n, 1n, 0n, 1n, 0n] }, /row 1 is next/],
      ['with a call beyond the end', { calls: [1n, 0n, 3n, 0n] }, /which has 2/],
      ['with a call of no rows', { calls: [1n, 0n, 0n, 0n] }, /0 rows/],
      ['with a call of -1 rows', { calls: [1n, 0n, -1n, 0n] }, /-1 rows/],
      ['with a call of 2^63 - 1 rows', { calls: [1n, 0n, 2n ** 63n - 1n, 0n] }, /which has 2/],
      ['with a call before its begin', { calls: [1n, 0n, 2n, -1n] }, /time/],
      ['with rows of no call', { calls: [1n, 0n, 1n, 0n] }, /belong to no call/],
      [
        'with a tensor that no trace has',
        { more: [{ name: 'x', dtype: 'U8', shape: [1], data: Uint8Array.of(1) }] },
        /'x'/,
      ],
      [
        'with weights of other rows',
        { more: [{ name: 'layers.1.topk_weights', dtype: 'F16', shape: [1, 2], data: new Uint16Array(2) }] },
        /other rows/,
      ],
    ])('%s', async (_, contents, message) => {
      await expect(read(contents)).rejects.toEqual(invalid(message))
    })
  })

  it('a file that ends early', async () => {
    const directory = await temporaryDirectory()
    await writeTrace(directory, [LAYERS[0]!], [{ index: 0, rows: [[0, 1]] }])
    const file = path.join(directory, first)
    const bytes = await readFile(file)
    // Every byte of the length and of the data, some of the header between them.
    for (
      let length = 0;
      length < bytes.length;
      length += length < 12 || length > bytes.length - 40 ? 1 : 11
    ) {
      await writeFile(file, bytes.subarray(0, length))
      await expect(readTrace(directory), `${length} bytes`).rejects.toEqual(invalid(/./))
    }
  })

  it('a file that is damaged anywhere is refused, or read as what it then says', async () => {
    const directory = await temporaryDirectory()
    await writeTrace(directory, LAYERS, randomCalls(new Random(3), LAYERS, 6), { withWeights: true })
    const file = path.join(directory, first)
    const bytes = await readFile(file)
    const outcomes = { read: 0, refused: 0 }
    await fc.assert(
      fc.asyncProperty(fc.oneof(mutations, binaryMutations), async steps => {
        await writeFile(file, mutate(bytes, steps))
        try {
          const trace = await readTrace(file)
          outcomes.read++
          for (const [index, { numExperts, topK }] of trace.layers.entries()) {
            const rows = trace.calls.rows.filter((_, call) => trace.calls.layer[call] === index)
            const ids = trace.topkIds[index]!
            expect(ids.length).toBe(topK * rows.reduce((sum, count) => sum + count, 0))
            const none = ids instanceof Uint8Array ? 255 : 65_535
            expect(ids.every(id => id < numExperts || id === none)).toBe(true)
          }
        } catch (error) {
          expect(error).toMatchObject({ code: 'ERR_MOE_TRACE_INVALID' })
          outcomes.refused++
        }
      }),
      { numRuns: 400, seed: 4 },
    )
    expect(outcomes.read).toBeGreaterThan(0)
    expect(outcomes.refused).toBeGreaterThan(0)
  })
})
