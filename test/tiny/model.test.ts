/** The published files of the model: layout, sizes, and that the package's loader and the decoder read the same. */

import { readFile, stat } from 'node:fs/promises'
import path from 'node:path'
import { describe, expect, it } from 'vitest'
import {
  costsOfFeedForwards,
  countParameters,
  Decoder,
  heldOutLoss,
} from '../../examples/tiny-deepseek/decoder/index.js'
import { MODEL_DIRECTORY, RESULTS_DIRECTORY, readHeldOut } from '../../examples/tiny-deepseek/files.js'
import { loadTwin, twinSize } from '../../examples/tiny-deepseek/twins.js'
import { type DeviceOption, MoeLayer, reference } from '../../lib/index.js'
import { BOUNDS } from '../cases/index.js'
import { Random } from '../cases/random.js'
import { readSafetensors } from '../cases/safetensors.js'
import { allDevices, nativeDevices } from '../helpers/devices.js'
import { expectClose } from '../helpers/relative-error.js'

const file = path.join(MODEL_DIRECTORY, 'model.safetensors')
const device = nativeDevices[0] as DeviceOption

describe('the published files', () => {
  it('have the names, shapes and dtypes of DeepSeek-V3', async () => {
    const tensors = await readSafetensors(file)
    const shapes = (pattern: RegExp) =>
      new Set(
        [...tensors]
          .filter(([name]) => pattern.test(name))
          .map(([, { dtype, shape }]) => `${dtype} ${shape}`),
      )
    const count = (pattern: RegExp) => [...tensors.keys()].filter(name => pattern.test(name)).length
    const layer = 'model\\.layers\\.[1-4]\\.mlp'
    expect(shapes(new RegExp(`^${layer}\\.experts\\.\\d+\\.(gate|up)_proj\\.weight$`))).toEqual(
      new Set(['BF16 56,192']),
    )
    expect(shapes(new RegExp(`^${layer}\\.experts\\.\\d+\\.down_proj\\.weight$`))).toEqual(
      new Set(['BF16 192,56']),
    )
    expect(count(/\.experts\.\d+\./)).toBe(4 * 32 * 3)
    expect(shapes(/\.shared_experts\.gate_proj\.weight$/)).toEqual(new Set(['BF16 56,192']))
    expect(shapes(/\.mlp\.gate\.weight$/)).toEqual(new Set(['BF16 32,192']))
    expect(shapes(/\.mlp\.gate\.e_score_correction_bias$/)).toEqual(new Set(['F32 32']))
    expect(shapes(/^model\.layers\.0\.mlp\.gate_proj\.weight$/)).toEqual(new Set(['BF16 512,192']))
    expect(shapes(/\.self_attn\.kv_a_proj_with_mqa\.weight$/)).toEqual(new Set(['BF16 80,192']))
    expect(shapes(/^(model\.embed_tokens|lm_head)\.weight$/)).toEqual(new Set(['BF16 256,192']))
  })

  it('take at most 12 MB, the held-out text and the traces included', async () => {
    const files = [
      file,
      path.join(MODEL_DIRECTORY, '../data/heldout.bin'),
      path.join(MODEL_DIRECTORY, '../traces/heldout/segment-00000.safetensors'),
    ]
    const sizes = await Promise.all(files.map(async name => (await stat(name)).size))
    expect(sizes.reduce((a, b) => a + b)).toBeLessThanOrEqual(12e6)
  })
})

describe.each(allDevices)("the package's loader on %s", name => {
  it.each([1, 4])('reads layer %i as its tensors say', async layer => {
    const tensors = await readSafetensors(file)
    const data = (suffix: string) => tensors.get(`model.layers.${layer}.mlp.${suffix}`)!.data as Float32Array
    const expert = (prefix: string) => ({
      gate: data(`${prefix}.gate_proj.weight`),
      up: data(`${prefix}.up_proj.weight`),
      down: data(`${prefix}.down_proj.weight`),
    })
    using loaded = await MoeLayer.load(MODEL_DIRECTORY, { layer, device: name as DeviceOption, dtype: 'f32' })
    const { config } = loaded
    expect(config.family).toBe('deepseek_v3')
    const hiddenStates = new Random(layer).normals(40 * config.hiddenSize)
    const exact = reference.forward(
      config,
      {
        router: { weight: data('gate.weight'), selectionBias: data('gate.e_score_correction_bias') },
        experts: Array.from({ length: config.numExperts }, (_, index) => expert(`experts.${index}`)),
        shared: expert('shared_experts'),
      },
      hiddenStates,
    )
    const { output, topkIds } = await loaded.forward(hiddenStates)
    expect(Array.from(topkIds)).toEqual(Array.from(exact.topkIds))
    expectClose(output, exact.output, BOUNDS.f32)
  })
})

describe('the trained model', () => {
  it('has the loss here that PyTorch measured', async () => {
    using decoder = await Decoder.load(MODEL_DIRECTORY, { device })
    const training = JSON.parse(await readFile(path.join(RESULTS_DIRECTORY, 'training.json'), 'utf8'))
    expect(countParameters(decoder)).toBe(training.moe.parameters)
    const { loss } = await heldOutLoss(decoder, await readHeldOut(), 4)
    // PyTorch's in single precision; a token of the 1024 may meet another expert where two scores were close.
    expect(Math.abs(loss - training.moe.heldOutBf16Of4Windows)).toBeLessThan(1e-4)
  })

  it('has learned in its experts: without the routed ones it is much worse', async () => {
    using decoder = await Decoder.load(MODEL_DIRECTORY, { device })
    const text = await readHeldOut()
    const without = await heldOutLoss(decoder, text, 1, { topK: 0 })
    expect(without.loss).toBeGreaterThan((await heldOutLoss(decoder, text, 1)).loss + 0.1)
  })

  it('has dense twins of its total and its active size', async () => {
    using decoder = await Decoder.load(MODEL_DIRECTORY, { device })
    expect([twinSize(decoder, 'dense_total'), twinSize(decoder, 'dense_active')]).toEqual([33 * 56, 5 * 56])
    const costs = costsOfFeedForwards(decoder)
    for (const name of ['dense_active', 'dense_total'] as const) {
      const { decoder: twin, trained } = await loadTwin(decoder, MODEL_DIRECTORY, name, { device })
      using _ = twin
      expect(trained).toBe(false)
      const { logits, routing } = await twin.forward([{ sequence: twin.newSequence(), tokens: [65, 66, 67] }])
      expect(logits.every(Number.isFinite)).toBe(true)
      expect(routing).toEqual([])
      const ratio = costsOfFeedForwards(twin).flops / costs.flops
      // The router is all that the sparse model computes beyond its active twin.
      if (name === 'dense_active') expect(ratio).toBeGreaterThan(0.9)
      if (name === 'dense_active') expect(ratio).toBeLessThanOrEqual(1)
      else expect(ratio).toBeGreaterThan(4)
      const size = countParameters(twin) / countParameters(decoder)
      if (name === 'dense_total') expect(Math.abs(size - 1)).toBeLessThan(0.01)
    }
  })
})
