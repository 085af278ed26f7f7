/** The model of the CUDA kernels' time: what it counts, and which kernels it takes for which calls. */

import { describe, expect, it } from 'vitest'
import { expectedGroups, GPUS, kernelsOf, predict, wgmmaWidth } from '../../bench/gpu/time-model.js'
import { stagesOf, stepClocks, tileClocks, WGMMA } from '../../bench/gpu/wgmma-model.js'
import { SHAPES } from '../../bench/harness/shapes.js'

const config = Object.fromEntries(SHAPES)['OLMoE-1B-7B']!
const [ampere, hopper] = GPUS as [(typeof GPUS)[0], (typeof GPUS)[0]]

describe('groups of tokens', () => {
  it('are an expected value over the binomial distribution', () => {
    // Two tokens, each of which an expert has with probability 1/2: 0, 1 or 2 of them.
    expect(expectedGroups(1, 0.5, 2, 1)).toBeCloseTo(1, 12)
    expect(expectedGroups(1, 0.5, 2, 2)).toBeCloseTo(0.75, 12)
    expect(expectedGroups(8, 0.5, 2, 2)).toBeCloseTo(6, 12)
    expect(expectedGroups(3, 1, 17, 8)).toBe(9)
  })

  it('cover the tokens, and little more where those are many', () => {
    const groups = expectedGroups(64, 1 / 8, 4096, 64)
    expect(groups * 64).toBeGreaterThan(4096 * 8)
    expect(groups * 64).toBeLessThan(4096 * 8 + 64 * 64)
  })
})

describe('a tile on wgmma', () => {
  it('has the stages that the kernels have', () => {
    expect([64, 128, 192, 256].map(stagesOf)).toEqual([8, 6, 4, 4])
  })

  it('takes the clocks of its products, and of shared memory, which meet at 256 tokens', () => {
    expect(stepClocks(256)).toMatchObject({ products: 1024, shared: 1024 })
    expect(stepClocks(64)).toMatchObject({ products: 256, shared: 448 })
    const step = stepClocks(128)
    expect(step.l2).toBeCloseTo((128 * 128 + 128 * 128) / WGMMA.l2BytesPerClock, 9)
  })

  it('takes as long for every 64 of K', () => {
    const at = (cols: number) => tileClocks(256, cols, true)
    expect(at(2048) - at(1024)).toBeCloseTo(at(1024) - at(0), 9)
    expect(at(1000)).toBe(at(1024))
  })
})

describe('the router', () => {
  const gate = (numTokens: number) => kernelsOf(config, numTokens)[0]!

  it('multiplies by three parts of each weight, in whole tiles', () => {
    expect(gate(1).matrixFlops).toBe(2 * 3 * 16 * 64 * 2048)
    expect(gate(4096).matrixFlops).toBe(2 * 3 * 4096 * 64 * 2048)
  })

  it('has large tiles where those fill a GPU', () => {
    expect(gate(512).l2Bytes).toBe((512 / 16) * (64 / 8) * (16 * 2 + 8 * 4) * 2048)
    expect(gate(4096).l2Bytes).toBe((4096 / 32) * (64 / 32) * (32 * 2 + 32 * 4) * 2048)
  })
})

describe('which kernels a call has', () => {
  const widths = (numTokens: number, gpu: (typeof GPUS)[0]) =>
    kernelsOf(config, numTokens).flatMap(kernel => wgmmaWidth(kernel, gpu) ?? [])

  it('are on wgmma from 25 tokens per expert on, on Hopper alone', () => {
    expect(widths(192, hopper)).toEqual([])
    expect(widths(200, hopper)).toEqual([64, 64])
    expect(widths(4096, hopper)).toEqual([256, 256])
    expect(widths(4096, ampere)).toEqual([])
  })

  it('are never faster than the matrix units', () => {
    for (const kernel of kernelsOf(config, 4096)) {
      if (!kernel.matmul) continue
      const rate = 2 * WGMMA.multiplyAddsPerClock * hopper.multiprocessors * hopper.clock
      expect(predict(kernel, hopper)).toMatchObject({ bound: 'wgmma' })
      expect(predict(kernel, hopper).seconds).toBeGreaterThan(kernel.matrixFlops / rate)
    }
  })
})
