/** Golden checkpoints whose experts do not all lie in memory: the bits of the layer that has them all, at every capacity. */

import { afterAll, describe, expect, it } from 'vitest'
import { type LoadOptions, MoeLayer } from '../../lib/index.js'
import { describeCuda } from '../helpers/cuda.js'
import { nativeDevices } from '../helpers/devices.js'
import { expectSame } from '../helpers/same.js'
import { type GoldenCase, goldenCase, goldenCases } from './cases.js'
import { GGUF_CASES } from './gguf-cases.js'
import { ggufOf, removeGguf, writeGguf } from './gguf-layer.js'

type Load = (options: LoadOptions) => Promise<MoeLayer>

const loads =
  ({ directory, expected }: GoldenCase): Load =>
  options =>
    MoeLayer.load(directory, { layer: expected.layer, module: expected.module, device: 'cpu', ...options })

/** The output of some of its rows. */
async function outputsAt(
  layer: MoeLayer,
  { expected }: GoldenCase,
  from: number,
  to: number,
): Promise<Float32Array> {
  const rows = (values: number[] | undefined, width: number) => values?.slice(from * width, to * width)
  const routerInput = rows(expected.routerInput, expected.hiddenSize)
  const tokenIds = rows(expected.tokenIds, 1)
  const { output } = await layer.forward(Float32Array.from(rows(expected.input, expected.hiddenSize)!), {
    tokenIds: tokenIds && Int32Array.from(tokenIds),
    routerInput: routerInput && Float32Array.from(routerInput),
  })
  return output
}

/** Its outputs: all rows at once, then each of the first ones alone, then all again. */
async function outputsOf(layer: MoeLayer, golden: GoldenCase): Promise<Float32Array[]> {
  const { numTokens } = golden.expected
  const call = (from: number, to: number) => outputsAt(layer, golden, from, to)
  const single = Math.min(3, numTokens)
  const outputs = [await call(0, numTokens)]
  for (let row = 0; row < single; row++) outputs.push(await call(row, row + 1))
  return [...outputs, await call(0, numTokens)]
}

async function withLayer<Result>(
  layer: MoeLayer,
  body: (layer: MoeLayer) => Promise<Result>,
): Promise<Result> {
  try {
    return await body(layer)
  } finally {
    layer.dispose()
  }
}

function expectSameOutputs(actual: Float32Array[], expected: Float32Array[]): void {
  expect(actual).toHaveLength(expected.length)
  for (const [i, output] of actual.entries()) expectSame(output, expected[i]!, `call ${i}`)
}

async function expectSameBits(load: Load, golden: GoldenCase, options: LoadOptions): Promise<void> {
  const expected = await withLayer(await load(options), layer => outputsOf(layer, golden))
  const whole = await load({ ...options, cache: { hostBytes: 2 ** 40 } })
  // All experts fit: memory is taken for them and no more.
  const { expertBytes, slots, ringSlots } = whole.explain(1).cache!
  const { numExperts, topK } = whole.config
  expect([slots, ringSlots]).toEqual([numExperts, 0])
  expectSameOutputs(await withLayer(whole, layer => outputsOf(layer, golden)), expected)
  const least = Math.min(numExperts, topK + 1)
  for (const blocks of new Set([least, Math.max(least, numExperts - 1)])) {
    const cache = { hostBytes: blocks * expertBytes, directIo: blocks === least ? 'auto' : 'off' } as const
    const layer = await load({ ...options, cache })
    const outputs = await withLayer(layer, async () => {
      const made = await outputsOf(layer, golden)
      const { hits, misses, bytesRead } = layer.stats().cache!
      expect(hits + misses).toBeGreaterThan(0)
      expect(bytesRead > 0).toBe(misses > 0)
      return made
    })
    expectSameOutputs(outputs, expected)
  }
}

// Fewer calls than on cpu: an emulated GPU is slow. Both memories hold a part of the experts.
describeCuda('a cache over memory of the host gives the bits of the resident layer', device => {
  it.each(goldenCases())('$name', async golden => {
    const options = { dtype: 'f32', device } as const
    const load = loads(golden)
    const outputs = async (layer: MoeLayer) => {
      const calls = [await outputsAt(layer, golden, 0, golden.expected.numTokens)]
      calls.push(await outputsAt(layer, golden, 0, 1))
      return [...calls, await outputsAt(layer, golden, 0, golden.expected.numTokens)]
    }
    const expected = await withLayer(await load(options), outputs)
    const whole = await load({ ...options, cache: { deviceBytes: 2 ** 30 } })
    const { numExperts, topK } = whole.config
    const { expertBytes } = whole.explain(1).cache!
    whole.dispose()
    const cache = {
      deviceBytes: Math.min(numExperts, topK + 1) * expertBytes,
      hostBytes: Math.ceil(numExperts / 2) * expertBytes,
    }
    expectSameOutputs(await withLayer(await load({ ...options, cache }), outputs), expected)
  })
})

describe.skipIf(!nativeDevices.includes('cpu'))('a cache gives the bits of the resident layer', () => {
  afterAll(removeGguf)

  it.each(goldenCases())('$name', async golden => {
    await expectSameBits(loads(golden), golden, { dtype: 'f32' })
  })

  it.each(['gpt_oss_mxfp4', 'kimi_k2_int4', 'qwen3_moe_awq'])('%s with rows as int8', async name => {
    const golden = goldenCase(name)
    await expectSameBits(loads(golden), golden, { dtype: 'bf16', activations: 'int8' })
  })

  // What is cached is the stored form, or what the option makes of it.
  it.each(['expand', 'int8', 'int4'] as const)('weights: %s', async weights => {
    const golden = goldenCase('deepseek_v3_fp8')
    await expectSameBits(loads(golden), golden, { weights })
  })

  it.each(GGUF_CASES.filter((_, index) => index % 4 === 0))('$golden as $architecture', async ggufCase => {
    const golden = goldenCase(ggufCase.golden)
    const source = writeGguf((await ggufOf(golden, ggufCase)).file)
    const { config } = ggufCase
    const load: Load = options =>
      MoeLayer.load(source, { layer: golden.expected.layer, config, device: 'cpu', ...options })
    await expectSameBits(load, golden, {})
  })
})
