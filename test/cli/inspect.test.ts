/** `sparse-experts inspect`: what a checkpoint holds and what loading it would take, as text and as JSON. */

import { afterAll, describe, expect, it } from 'vitest'
import { MoeModel } from '../../lib/index.js'
import { removeGguf, writeGguf } from '../golden/gguf-layer.js'
import {
  CONFIG,
  EXPERTS,
  HIDDEN,
  layerTensors,
  removeCheckpoints,
  temporaryDirectory,
  WIDTH,
  writeCheckpoint,
} from '../helpers/checkpoint-tiny.js'
import { experts, model } from '../helpers/gguf-model.js'
import { runInProcess } from '../helpers/run-in-process.js'

afterAll(removeCheckpoints)
afterAll(removeGguf)

const inspect = (...args: string[]) => runInProcess(['inspect', ...args])

describe('inspect', () => {
  it('shows layers alike in one row, dense ones as a number, and whether they fit', async () => {
    const directory = await writeCheckpoint({ ...CONFIG, num_hidden_layers: 4 }, [
      layerTensors(1),
      layerTensors(2),
      layerTensors(3),
    ])
    const { status, stdout } = await inspect(directory, '--device', 'reference')
    expect(status).toBe(0)
    expect(stdout).toContain('deepseek_v3, 4 layers: 3 with experts, 1 dense')
    const bytes = 4 * (EXPERTS * HIDDEN + EXPERTS + (EXPERTS + 1) * 3 * WIDTH * HIDDEN)
    const row = new RegExp(
      `1–3 +${EXPERTS} +2 +${HIDDEN} × ${WIDTH} +f32 +reference +${(bytes / 1000).toFixed(2)} kB`,
    )
    expect(stdout).toMatch(row)
    expect(stdout).toMatch(/host .* fits/)
  })

  it('prints the same as JSON: the layers, and the plan of all of them', async () => {
    const file = writeGguf(model([...experts(0), ...experts(1)]))
    const options = ['--device', 'reference', '--max-tokens', '9', '--dtype', 'f32', '--json']
    const { status, stdout } = await inspect(file, ...options)
    expect(status).toBe(0)
    const report = JSON.parse(stdout)
    expect(report).toMatchObject({ source: file, modelType: 'qwen3_moe', numLayers: 2 })
    expect(report.layers.map(({ index }: { index: number }) => index)).toEqual([0, 1])
    const plan = await MoeModel.plan(file, { device: 'reference', maxTokens: 9, dtype: 'f32' })
    // What is free changes meanwhile.
    const { memory: _, ...planned } = JSON.parse(JSON.stringify(plan))
    expect(report.plan).toMatchObject(planned)
  })

  it('fails with a code', async () => {
    const { status, stderr } = await inspect(temporaryDirectory())
    expect(status).toBe(1)
    expect(stderr).toContain('[ERR_MOE_IO]')
    const dense = await writeCheckpoint({ ...CONFIG, first_k_dense_replace: 3 }, layerTensors(1))
    const json = await inspect(dense, '--json')
    expect(JSON.parse(json.stdout).error.code).toBe('ERR_MOE_NOT_SPARSE')
    expect((await inspect(dense, '--device', 'gpu')).status).toBe(2)
    expect((await inspect(dense, '--max-tokens', '0')).status).toBe(2)
  })
})
