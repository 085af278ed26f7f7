/** Memory that a caller takes away while a call uses it: never read or written after it was freed, and every lost result an error. */

import { afterEach, describe, expect, it } from 'vitest'
import { isInSharedMemory } from '../../lib/block/typed-arrays.js'
import { MoeLayer, Tensor } from '../../lib/index.js'
import { goldenCases } from '../golden/cases.js'
import { runProgram } from '../helpers/run-program.js'
import { expectSame } from '../helpers/same.js'
import { isEmulated, tinyLayer } from '../helpers/tiny-layer.js'
import { testDevice } from './fixtures/layer.mjs'

const options = { device: testDevice }
const code = (name: string) => expect.objectContaining({ code: name })
/** Enough rows that each array is copied in two pieces. */
const ROWS = 24 * 1024
let layers: MoeLayer[] = []
afterEach(() => {
  for (const layer of layers) layer.dispose()
  layers = []
})

function large(rows = ROWS) {
  const { layer, config } = tinyLayer(options)
  layers.push(layer)
  const hidden = Float32Array.from({ length: rows * config.hiddenSize }, (_, i) => Math.sin(i))
  expect(hidden.byteLength).toBeGreaterThan(2 << 20)
  return { layer, config, hidden }
}

function steal(array: Float32Array): void {
  structuredClone(array.buffer, { transfer: [array.buffer as ArrayBuffer] })
}

describe('large arrays of a caller', () => {
  it('survive in a process where they are stolen, shrunk and collected at random', async () => {
    const rounds = isEmulated(testDevice) ? 2 : 12
    const { status, stdout, stderr } = await runProgram('test/devices/fixtures/stolen-buffers.ts', [
      testDevice,
      `${rounds}`,
      '3',
    ])
    expect(stderr).toBe('')
    expect(status).toBe(0)
    const { numDone, numDetached, numWrong } = JSON.parse(stdout)
    expect(numWrong).toBe(0)
    expect(numDone + numDetached).toBe(rounds)
    expect(numDetached).toBeGreaterThan(0)
  })

  it('are an error where they are gone, and the next call goes on', async () => {
    const { layer, hidden } = large()
    const expected = (await layer.forward(hidden)).output
    for (const stolen of ['hidden', 'output'] as const) {
      const arrays = { hidden: hidden.slice(), output: new Float32Array(hidden.length) }
      const call = layer.forward(arrays.hidden, { output: arrays.output })
      steal(arrays[stolen])
      await expect(call).rejects.toEqual(code('ERR_MOE_BUFFER_DETACHED'))
      const again = new Float32Array(hidden.length)
      expect((await layer.forward(hidden, { output: again })).output).toBe(again)
      expectSame(again, expected)
    }
  })

  it('keep the order of calls, whatever their size', async () => {
    const { layer, config, hidden } = large()
    const order: number[] = []
    const small = hidden.slice(0, config.hiddenSize)
    const calls = [hidden, small, hidden, small, small].map((array, call) =>
      layer.forward(array, { output: new Float32Array(array.length) }).then(() => order.push(call)),
    )
    expect(layer.stats().queuedTokens).toBe(2 * ROWS + 3)
    await Promise.all(calls)
    expect(order).toEqual([0, 1, 2, 3, 4])
    expect(layer.stats()).toMatchObject({ queuedTokens: 0, queueDepth: 0 })
  })

  it('are copied in turns of the loop, between which an abort is noticed', async () => {
    // Three pieces: what is asked for between two of them is noticed before the third.
    const { layer, hidden } = large(40 * 1024)
    const abort = new AbortController()
    const call = layer.forward(hidden, { signal: abort.signal })
    setImmediate(() => abort.abort(new Error('enough')))
    await expect(call).rejects.toThrow('enough')
    await layer.forward(hidden)
  })

  it('of calls that were accepted are still computed after dispose', async () => {
    const { layer, config, hidden } = large()
    const expected = (await layer.forward(hidden)).output
    const calls = [layer.forward(hidden), layer.forward(hidden.slice(0, config.hiddenSize))]
    layer.dispose()
    await expect(layer.forward(hidden)).rejects.toEqual(code('ERR_MOE_DISPOSED'))
    const [first, second] = await Promise.all(calls)
    expectSame(first!.output, expected)
    expect(second!.numTokens).toBe(1)
    await layer[Symbol.asyncDispose]()
  })

  it('are used in place where nobody can take them away: shared memory, tensors, new outputs', async () => {
    const { layer, config, hidden } = large()
    const expected = (await layer.forward(hidden)).output
    const shared = new Float32Array(new SharedArrayBuffer(hidden.byteLength))
    shared.set(hidden)
    const output = new Float32Array(new SharedArrayBuffer(hidden.byteLength))
    await layer.forward(shared, { output })
    expectSame(new Float32Array(output), expected)
    const tensor = Tensor.from(hidden, [ROWS, config.hiddenSize], { device: testDevice })
    expectSame((await layer.forward(tensor)).output.toHost(), expected)
  })
})

describe('ids on the reference', () => {
  it('that are gone are not taken for wrong ones', async () => {
    const { directory, expected } = goldenCases().find(({ name }) => name === 'deepseek_v4_hash')!
    const layer = await MoeLayer.load(directory, { layer: expected.layer, device: 'reference' })
    layers.push(layer)
    // Several slices of the event loop, however fast the machine is.
    const numTokens = 20_000
    const tokenIds = new Int32Array(numTokens)
    const call = layer.forward(new Float32Array(numTokens * layer.config.hiddenSize).fill(0.5), { tokenIds })
    setImmediate(() => structuredClone(tokenIds.buffer, { transfer: [tokenIds.buffer] }))
    await expect(call).rejects.toEqual(code('ERR_MOE_BUFFER_DETACHED'))
  })
})

describe('memory that only looks shared', () => {
  it('is copied like any other', async () => {
    const { layer, hidden } = large()
    const forged = hidden.slice()
    Object.setPrototypeOf(forged.buffer, SharedArrayBuffer.prototype)
    expect(forged.buffer).toBeInstanceOf(SharedArrayBuffer)
    expect(isInSharedMemory(forged)).toBe(false)
    const lying = hidden.slice()
    Object.defineProperty(lying, 'buffer', { value: new SharedArrayBuffer(8) })
    expect(isInSharedMemory(lying)).toBe(false)
    expect(isInSharedMemory(new Float32Array(new SharedArrayBuffer(8)))).toBe(true)
    // Whatever they call themselves, such calls end in a result or in a coded error.
    for (const array of [forged, lying]) {
      const error: unknown = await layer.forward(array).then(
        () => undefined,
        reason => reason,
      )
      if (error !== undefined) expect(error).toHaveProperty('code', expect.stringMatching(/^ERR_MOE_/))
    }
  })
})

describe('signals that misbehave', () => {
  const misbehaving = (body: () => void): AbortSignal => {
    const { signal } = new AbortController()
    return Object.defineProperty(signal, 'addEventListener', { value: body })
  }

  it('leave no memory leased', async () => {
    const { layer, config } = tinyLayer(options)
    layers.push(layer)
    const hidden = new Float32Array(6 * config.hiddenSize).fill(0.5)
    const output = new Float32Array(hidden.length)
    const signal = misbehaving(() => {
      throw new Error('no listeners here')
    })
    await expect(layer.forward(hidden, { output, signal })).rejects.toThrow('no listeners here')
    expect(layer.stats()).toMatchObject({ queuedTokens: 0, queueDepth: 0 })
    await layer.forward(hidden, { output })
  })

  it('may dispose the layer', async () => {
    const { layer, config } = tinyLayer(options)
    layers.push(layer)
    const hidden = new Float32Array(6 * config.hiddenSize).fill(0.5)
    const output = new Float32Array(hidden.length)
    const signal = misbehaving(() => layer.dispose())
    await layer.forward(hidden, { output, signal })
    await expect(layer.forward(hidden, { output })).rejects.toEqual(code('ERR_MOE_DISPOSED'))
    const next = tinyLayer(options).layer
    layers.push(next)
    await next.forward(hidden, { output })
  })
})
