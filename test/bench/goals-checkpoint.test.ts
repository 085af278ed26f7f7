/** The checkpoints that the goals are measured on: what they store, and that they load. */

import { mkdtempSync, rmSync, statSync } from 'node:fs'
import os from 'node:os'
import path from 'node:path'
import { describe, expect, it } from 'vitest'
import { writeCheckpoint } from '../../bench/goals/checkpoint.js'
import { MoeLayer } from '../../lib/index.js'

describe.each([
  ['small shape', 0],
  ['shape with shared experts', 2],
])('a checkpoint of a %s', (which, numSharedExperts) => {
  const shape = {
    name: which,
    config: {
      ...{ hiddenSize: 64, intermediateSize: 32, numExperts: 4, topK: 2, scoringFunc: 'softmax' as const },
      ...{ normTopkProb: false as const, numSharedExperts },
    },
  }
  const perMatrix = 32 * 64

  // Bytes of a matrix: ggml's own of a block of 32, and a byte for each weight and a scale of f32 for up to 128 rows and columns.
  it.each([
    ['bf16', 'bf16', 2 * perMatrix],
    ['q4_0', 'q4_0', (18 * perMatrix) / 32],
    ['q8_0', 'q8_0', (34 * perMatrix) / 32],
    ['mxfp4', 'mxfp4', (17 * perMatrix) / 32],
    ['q4_K', 'q5_0', (22 * perMatrix) / 32],
    ['fp8', 'fp8 per tensor', perMatrix + 4],
  ] as const)('in %s is one of %s', async (kind, stored, matrixBytes) => {
    const directory = mkdtempSync(path.join(os.tmpdir(), 'goals-test-'))
    try {
      const { source, files, weightBytes } = await writeCheckpoint(shape, kind, directory)
      // The shared experts are one MLP, twice as wide: as many weights, half as many scales of fp8.
      const wide = kind === 'fp8' ? 3 * (2 * perMatrix + 4) : 6 * matrixBytes
      const routed = 3 * 4 * matrixBytes
      expect(weightBytes).toBe(4 * 4 * 64 + routed + (numSharedExperts === 0 ? 0 : wide))
      expect(statSync(files[0]!).size).toBeGreaterThan(weightBytes)
      const layer = await MoeLayer.load(source, { layer: 0, device: 'reference', weights: 'stored' })
      expect(layer.config).toMatchObject({ hiddenSize: 64, numExperts: 4, topK: 2 })
      expect(layer.weightFormat.up).toMatchObject({ stored })
      const { output } = layer.forwardSync(new Float32Array(64).fill(1))
      expect(output.every(Number.isFinite)).toBe(true)
      expect(output.some(value => value !== 0)).toBe(true)
      layer.dispose()
    } finally {
      rmSync(directory, { recursive: true, force: true })
    }
  })
})
