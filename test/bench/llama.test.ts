import { mkdtempSync, readFileSync, rmSync, statSync } from 'node:fs'
import os from 'node:os'
import path from 'node:path'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { type GgufTensor, writeGguf } from '../../bench/harness/gguf-writer.js'
import type { MoeConfig } from '../../bench/harness/package.js'
import { perLayerMs } from '../../bench/peers/llama/measure-llama.js'
import { layerWeights, writeModel } from '../../bench/peers/llama/model.js'
import { MoeLayer } from '../../lib/index.js'

let directory: string
beforeEach(() => {
  directory = mkdtempSync(path.join(os.tmpdir(), 'gguf-test-'))
})
afterEach(() => rmSync(directory, { recursive: true, force: true }))

describe('a GGUF file', () => {
  it('is header, metadata, tensor table and aligned data', () => {
    const file = path.join(directory, 'two.gguf')
    const tensors: GgufTensor[] = [
      { name: 'a', type: 'f32', dims: [3], parts: () => [Float32Array.of(1, 2), Float32Array.of(3)] },
      { name: 'b', type: 'bf16', dims: [2, 1], parts: () => [Uint16Array.of(7, 8)] },
    ]
    writeGguf(file, { word: 'x', count: { uint32: 5 }, ratio: { float32: 0.5 }, list: ['p', 'qr'] }, tensors)
    const bytes = readFileSync(file)
    expect(bytes.subarray(0, 4).toString()).toBe('GGUF')
    expect([bytes.readUInt32LE(4), bytes.readBigUInt64LE(8), bytes.readBigUInt64LE(16)]).toEqual([3, 2n, 4n])
    // Both tensors take one aligned block, the last thing in the file.
    const data = bytes.subarray(bytes.length - 64)
    expect(bytes.length % 32).toBe(0)
    expect([0, 4, 8].map(at => data.readFloatLE(at))).toEqual([1, 2, 3])
    expect([data.readUInt16LE(32), data.readUInt16LE(34)]).toEqual([7, 8])
    const name = bytes.indexOf(Buffer.from('b\u0002', 'latin1'))
    // dims, then type 30 and the offset of the second block.
    expect(bytes.readBigUInt64LE(name + 5)).toBe(2n)
    expect(bytes.readUInt32LE(name + 21)).toBe(30)
    expect(bytes.readBigUInt64LE(name + 25)).toBe(32n)
  })

  it('is refused where a tensor is not as long as its shape', () => {
    const parts = () => [new Float32Array(2)]
    const wrong: GgufTensor = { name: 'w', type: 'f32', dims: [3], parts }
    expect(() => writeGguf(path.join(directory, 'w'), {}, [wrong])).toThrow('8 bytes for 12')
  })
})

describe.each([
  ['bf16', 0, 16],
  ['q8_0', 0, 8.5],
  ['q4_0', 1, 4.5],
  ['mxfp4', 2, 4.25],
] as const)('a model in %s with %i shared experts', (form, numSharedExperts, bits) => {
  const config: MoeConfig = {
    ...{ hiddenSize: 64, intermediateSize: 32, numExperts: 4, topK: 2, numSharedExperts },
    ...{ scoringFunc: 'softmax', normTopkProb: true },
  }
  const write = (layers: number) => {
    const file = path.join(directory, `${layers}.gguf`)
    writeModel(file, config, layers, form)
    return file
  }

  it('grows by its layers alone', () => {
    const [one, two, three] = [1, 2, 3].map(layers => statSync(write(layers)).size) as [
      number,
      number,
      number,
    ]
    const experts = 3 * (4 + numSharedExperts) * 64 * 32
    // Four heads; of the architecture with shared experts as many as make the width, one at least.
    const heads = numSharedExperts > 0 ? 1 : 4
    const attention = 64 * 128 * (2 * heads + 2)
    const matrices = ((experts + attention) * bits) / 8
    // Norms, the router in f32 and the table of tensors.
    expect(two - one).toBeGreaterThan(matrices)
    expect(two - one).toBeLessThan(matrices + 4 * (4 * 64 + 2 * 64 + 2 * 128) + 2048)
    expect(Math.abs(three - two - (two - one))).toBeLessThan(64)
  })

  it('has layers that the package reads as they are stored', async () => {
    const layer = await MoeLayer.load(write(1), { layer: 0, device: 'reference', weights: 'stored' })
    expect(layer.weightFormat.down).toMatchObject({ stored: form })
    expect(layer.config.sharedIntermediateSize).toBe(32 * numSharedExperts)
    const { output } = layer.forwardSync(new Float32Array(64).fill(1))
    expect(output.every(Number.isFinite)).toBe(true)
    layer.dispose()
  })
})

it('takes a layer for half of what three layers cost more than one', () => {
  expect(perLayerMs([1, 2], [5, 4])).toEqual([2, 1])
  expect(perLayerMs([], [5])).toEqual([])
})

it('knows which share of a layer is its experts', () => {
  const config = { hiddenSize: 1024, intermediateSize: 512, numExperts: 16, topK: 2 }
  const { expertShare } = layerWeights(config as never)
  const experts = 3 * 2 * 1024 * 512 + 2 * 16 * 1024
  expect(expertShare).toBeCloseTo(experts / (experts + 1024 * 128 * 10))
})
