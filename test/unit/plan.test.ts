/** Plans: which files are read, what is checked before anything is allocated, and what each fault is called. */

import { writeFileSync } from 'node:fs'
import { rename, rm, symlink, truncate, writeFile } from 'node:fs/promises'
import path from 'node:path'
import fc from 'fast-check'
import { afterAll, describe, expect, it } from 'vitest'
import { bf16ToNumber, numberToBf16 } from '../../lib/block/dtype.js'
import { MoeError } from '../../lib/block/errors.js'
import { loadMatrices } from '../../lib/checkpoint/load/matrices.js'
import { readVectors } from '../../lib/checkpoint/load/vectors.js'
import { planLayer } from '../../lib/checkpoint/plan/layer.js'
import type { WritableTensor } from '../../lib/checkpoint/writer.js'
import { knownModelTypes } from '../../lib/families/index.js'
import {
  CONFIG,
  EXPERTS,
  f32,
  HASH_CONFIG,
  HIDDEN,
  layerTensors,
  removeCheckpoints,
  temporaryDirectory,
  WIDTH,
  writeCheckpoint,
} from '../helpers/checkpoint-tiny.js'
import { turnsUntil, withClock } from '../helpers/liveness.js'
import { skippedOnWindows } from '../helpers/platform.js'

afterAll(removeCheckpoints)

const ROUTER = 'model.layers.1.mlp.gate.weight'
const UP = 'model.layers.1.mlp.experts.2.up_proj.weight'
const DOWN = 'model.layers.1.mlp.experts.3.down_proj.weight'

/** A checkpoint whose tensors were changed by `change`; undefined removes one. */
async function damaged(
  change: (tensor: WritableTensor) => WritableTensor | undefined,
  config: object = CONFIG,
): Promise<string> {
  const tensors = layerTensors(1).flatMap(tensor => change(tensor) ?? [])
  return writeCheckpoint(config, tensors)
}

const replaced = (name: string, tensor?: WritableTensor) => damaged(old => (old.name === name ? tensor : old))

describe('a plan', () => {
  it('has config, matrices and vectors of the asked layer', async () => {
    const directory = await writeCheckpoint(CONFIG, [...layerTensors(1), ...layerTensors(2)])
    const plan = await planLayer(directory, { layer: 2 })
    expect(plan.layer).toBe(2)
    expect(plan.config).toMatchObject({
      family: 'deepseek_v3',
      hiddenSize: HIDDEN,
      intermediateSize: WIDTH,
      numExperts: EXPERTS,
      topK: 2,
      scoringFunc: 'sigmoid',
      numExpertGroups: 2,
      topkGroup: 1,
      groupScore: 'top2_sum',
      normalization: 'sum',
      normValue: 1e-20,
      routedScalingFactor: 2.5,
      numSharedExperts: 1,
      sharedIntermediateSize: WIDTH,
    })
    expect(plan.storedDtype).toBe('f32')
    expect(plan.matrices).toHaveLength(3 * EXPERTS + 3)
    expect(plan.vectors.map(({ target }) => target)).toEqual(['routerWeight', 'selectionBias'])
    expect(plan.matrices.every(({ data }) => data.name.startsWith('model.layers.2.'))).toBe(true)
    const bytes = (3 * EXPERTS + 3) * HIDDEN * WIDTH * 4 + EXPERTS * HIDDEN * 4 + EXPERTS * 4
    expect(plan.totalBytes).toBe(bytes)
    expect((await planLayer(directory)).layer).toBe(1)
  })

  it('reads the layer for multi-token prediction only when asked', async () => {
    const directory = await writeCheckpoint({ ...CONFIG, first_k_dense_replace: 3 }, layerTensors(3))
    await expect(planLayer(directory)).rejects.toMatchObject({ code: 'ERR_MOE_NOT_SPARSE' })
    expect((await planLayer(directory, { layer: 3 })).config.numExperts).toBe(EXPERTS)
  })

  it('takes the expert width from the tensors, since configs of fine-tunes are stale', async () => {
    const directory = await damaged(tensor => tensor, { ...CONFIG, moe_intermediate_size: 999 })
    expect((await planLayer(directory)).config.intermediateSize).toBe(WIDTH)
  })

  it('finds the language model inside a multimodal one', async () => {
    const { torch_dtype, ...text } = CONFIG
    const config = {
      model_type: 'some_vision_model',
      dtype: 'bfloat16',
      text_config: { ...text, model_type: 'kimi_k2' },
    }
    for (const prefix of ['language_model.model.layers.', 'model.language_model.layers.']) {
      const plan = await planLayer(await writeCheckpoint(config, layerTensors(1, prefix)))
      expect(plan.config.family).toBe('kimi_k2')
      expect(plan.storedDtype).toBe('bf16')
    }
    expect(torch_dtype).toBe('float32')
  })
})

describe('shards', () => {
  it('opens only those that hold the layer', async () => {
    const directory = await writeCheckpoint(CONFIG, [layerTensors(1), layerTensors(2)])
    await rm(path.join(directory, 'model-00002-of-00002.safetensors'))
    const plan = await planLayer(directory, { layer: 1 })
    expect(plan.files).toEqual([path.join(directory, 'model-00001-of-00002.safetensors')])
    await expect(planLayer(directory, { layer: 2 })).rejects.toMatchObject({
      code: 'ERR_MOE_IO',
      message: expect.stringContaining('model-00002-of-00002.safetensors'),
    })
  })

  const noLinks = skippedOnWindows('files that are links', 'only administrators make them')
  it.skipIf(noLinks)('may be symbolic links, as in the cache of the hub', async () => {
    const directory = await writeCheckpoint(CONFIG, [layerTensors(1)])
    const blob = path.join(temporaryDirectory(), 'blob')
    const shard = path.join(directory, 'model-00001-of-00001.safetensors')
    await rename(shard, blob)
    await symlink(blob, shard)
    expect((await planLayer(directory)).matrices).toHaveLength(3 * EXPERTS + 3)
  })

  const index = (directory: string, text: string) =>
    writeFile(path.join(directory, 'model.safetensors.index.json'), text)

  it.each([
    '../other/model.safetensors',
    '/etc/model.safetensors',
    'a/b.safetensors',
    'a\\b.safetensors',
    '..safetensors',
    'C:x.safetensors',
    'x.bin',
    '',
  ])('must have plain names: %j', async shard => {
    const directory = await writeCheckpoint(CONFIG, [layerTensors(1)])
    await index(directory, JSON.stringify({ weight_map: { [ROUTER]: shard } }))
    await expect(planLayer(directory)).rejects.toMatchObject({
      code: 'ERR_MOE_INVALID_CHECKPOINT',
      message: expect.stringContaining('plain file name'),
    })
  })

  it('must hold what the index says', async () => {
    const directory = await writeCheckpoint(CONFIG, [layerTensors(1)])
    const shard = 'model-00001-of-00001.safetensors'
    await index(directory, JSON.stringify({ weight_map: { [ROUTER]: shard, ghost: shard } }))
    await expect(planLayer(directory)).rejects.toMatchObject({
      code: 'ERR_MOE_INVALID_CHECKPOINT',
      details: { tensor: 'ghost' },
    })
  })

  it.each([
    ['no map', '{}'],
    ['no JSON', 'weights'],
    ['a duplicate name', '{"weight_map":{"a":"x.safetensors","a":"x.safetensors"}}'],
    ['a map of numbers', '{"weight_map":{"a":1}}'],
    ['a cut file', '{"weight_map":{"a":"x.safetensors"'],
  ])('need a sound index: %s', async (_, text) => {
    const directory = await writeCheckpoint(CONFIG, [layerTensors(1)])
    await index(directory, text)
    await expect(planLayer(directory)).rejects.toMatchObject({ code: 'ERR_MOE_INVALID_CHECKPOINT' })
  })
})

describe('faults of the directory', () => {
  it('are named helpfully', async () => {
    const missing = path.join(temporaryDirectory(), 'nowhere')
    await expect(planLayer(missing)).rejects.toMatchObject({ code: 'ERR_MOE_IO', details: { file: missing } })
    const empty = temporaryDirectory()
    await expect(planLayer(empty)).rejects.toMatchObject({
      code: 'ERR_MOE_IO',
      message: expect.stringMatching(/config\.json.*model\.safetensors/),
    })
    await writeFile(path.join(empty, 'config.json'), JSON.stringify(CONFIG))
    await expect(planLayer(empty)).rejects.toMatchObject({
      code: 'ERR_MOE_IO',
      message: expect.stringContaining('No weights'),
    })
    await expect(planLayer(path.join(empty, 'config.json'))).rejects.toMatchObject({ code: 'ERR_MOE_IO' })
  })

  it('include a config that is no JSON object', async () => {
    const directory = await writeCheckpoint(CONFIG, layerTensors(1))
    for (const text of ['{', '[]', '"x"', 'null']) {
      await writeFile(path.join(directory, 'config.json'), text)
      await expect(planLayer(directory)).rejects.toMatchObject({ code: 'ERR_MOE_INVALID_CONFIG' })
    }
  })

  it('do not include the Infinity that Python writes', async () => {
    const directory = await writeCheckpoint(CONFIG, layerTensors(1))
    const text = `${JSON.stringify(CONFIG).slice(0, -1)},"limit":[0.0,Infinity],"note":"NaN \\" Infinity","x":-Infinity}`
    await writeFile(path.join(directory, 'config.json'), text)
    expect((await planLayer(directory)).layer).toBe(1)
  })
})

describe('faults of the layer index', () => {
  it('are a dense layer and one that does not exist', async () => {
    const directory = await writeCheckpoint(CONFIG, layerTensors(1))
    await expect(planLayer(directory, { layer: 0 })).rejects.toMatchObject({
      code: 'ERR_MOE_NOT_SPARSE',
      message: expect.stringContaining('layers with experts: 1, 2'),
    })
    const outside = await planLayer(directory, { layer: 4 }).catch((error: unknown) => error)
    expect(outside).toBeInstanceOf(RangeError)
    expect(outside).toMatchObject({ code: 'ERR_MOE_INVALID_ARG_VALUE' })
  })
})

describe('faults of the config', () => {
  const faults: [string, object, RegExp][] = [
    ['a missing field', { hidden_size: undefined }, /hidden_size is missing/],
    ['groups that the default of the model does not divide', { n_group: undefined }, /numExpertGroups/],
    [
      'a string where a number belongs',
      { num_experts_per_tok: '2' },
      /num_experts_per_tok must be an integer/,
    ],
    ['a fraction', { n_routed_experts: 4.5 }, /n_routed_experts must be an integer/],
    ['a flag that is a number', { norm_topk_prob: 1 }, /norm_topk_prob must be true or false/],
    ['an unknown activation', { hidden_act: 'mish' }, /hidden_act 'mish' is not supported; supported: silu/],
    [
      'an activation named like a method',
      { hidden_act: 'toString' },
      /hidden_act 'toString' is not supported/,
    ],
    [
      'another score function',
      { scoring_func: 'softmax' },
      /scoring_func is 'softmax'; supported: 'sigmoid'/,
    ],
    ['more experts per token than experts', { num_experts_per_tok: 9 }, /topK/],
    ['groups that do not divide', { n_group: 3 }, /numExpertGroups/],
    ['no shared expert where the checkpoint has one', { n_shared_experts: null }, /no shared experts/],
    ['too many layers', { num_hidden_layers: 1e9 }, /cap/],
  ]
  it.each(faults)('%s', async (_, change, message) => {
    const directory = await writeCheckpoint({ ...CONFIG, ...change }, layerTensors(1))
    await expect(planLayer(directory)).rejects.toMatchObject({
      code: 'ERR_MOE_INVALID_CONFIG',
      message: expect.stringMatching(message),
      details: { file: path.join(directory, 'config.json') },
    })
  })

  it('include the combination on which implementations of deepseek_v2 disagree', async () => {
    const v2 = { ...CONFIG, model_type: 'deepseek_v2', scoring_func: 'softmax', topk_method: 'greedy' }
    const directory = await writeCheckpoint(v2, layerTensors(1))
    await expect(planLayer(directory)).rejects.toMatchObject({
      code: 'ERR_MOE_INVALID_CONFIG',
      message: expect.stringContaining('disagree'),
    })
  })

  it('include quantisation that no decoder covers', async () => {
    const quantizations = [
      { quant_method: 'bitsandbytes' },
      { quant_method: 'gptq', bits: 5, group_size: 128 },
      { quant_method: 'auto-round', bits: 1, group_size: 128 },
      { quant_method: 'auto-round', bits: 4, group_size: 128, packing_format: 'auto_round:llm_compressor' },
      { quant_method: 'compressed-tensors', config_groups: {}, sparsity_config: { format: 'sparse-24' } },
      { quant_method: 'awq', bits: 4, group_size: 128, version: 'gemv' },
    ]
    for (const quantization_config of quantizations) {
      const directory = await writeCheckpoint({ ...CONFIG, quantization_config }, layerTensors(1))
      await expect(planLayer(directory)).rejects.toMatchObject({
        code: 'ERR_MOE_UNSUPPORTED_FORMAT',
        message: expect.stringMatching(/supported:.*'model\.layers\.1\.mlp\.experts\.0\./),
        details: { tensor: expect.stringContaining('experts.0.') },
      })
    }
  })
})

describe('any config', () => {
  it('gives a plan or a typed error', async () => {
    const quantization_config = { quant_method: 'fp8', weight_block_size: [128, 128] }
    const config: Record<string, unknown> = { ...CONFIG, quantization_config, mlp_layer_types: null }
    const directory = await writeCheckpoint(config, layerTensors(1))
    const file = path.join(directory, 'config.json')
    const change = fc.tuple(
      fc.constantFrom(...Object.keys(config), 'text_config', '__proto__'),
      fc.jsonValue(),
    )
    const types = fc.constantFrom(undefined, ...knownModelTypes())
    let planned = 0
    await fc.assert(
      fc.asyncProperty(fc.array(change, { maxLength: 3 }), types, async (changes, model_type) => {
        const changed = { ...config, ...(model_type ? { model_type } : {}), ...Object.fromEntries(changes) }
        writeFileSync(file, JSON.stringify(changed))
        try {
          await planLayer(directory)
          planned++
        } catch (error) {
          expect(error).toBeInstanceOf(MoeError)
        }
      }),
      { numRuns: 500, seed: 4 },
    )
    expect(planned).toBeGreaterThan(6)
  })
})

describe('faults of tensors, found before any weight is read', () => {
  const missing: string[] = [ROUTER, UP, DOWN, 'model.layers.1.mlp.gate.e_score_correction_bias']
  it.each(missing)('without %s', async name => {
    await expect(planLayer(await replaced(name))).rejects.toMatchObject({
      code: 'ERR_MOE_MISSING_TENSOR',
      message: expect.stringContaining(name),
    })
  })

  const I64 = { name: UP, dtype: 'I64', shape: [WIDTH, HIDDEN], data: new BigInt64Array(WIDTH * HIDDEN) }
  it.each<[string, WritableTensor, string]>([
    ['a router for more experts', f32(ROUTER, EXPERTS + 1, HIDDEN), `[${EXPERTS}, ${HIDDEN}]`],
    ['a router of another width', f32(ROUTER, EXPERTS, HIDDEN + 1), `[${EXPERTS}, ${HIDDEN}]`],
    ['one expert of another width', f32(UP, WIDTH + 1, HIDDEN), `[${WIDTH}, ${HIDDEN}]`],
    ['a transposed matrix', f32(DOWN, WIDTH, HIDDEN), `[${HIDDEN}, ${WIDTH}]`],
    ['a flat matrix', f32(DOWN, WIDTH * HIDDEN), `[${HIDDEN}, ${WIDTH}]`],
    [
      'a bias for more experts',
      f32('model.layers.1.mlp.gate.e_score_correction_bias', EXPERTS + 1),
      `[${EXPERTS}]`,
    ],
  ])('%s', async (_, tensor, expected) => {
    await expect(planLayer(await replaced(tensor.name, tensor))).rejects.toMatchObject({
      code: 'ERR_MOE_TENSOR_MISMATCH',
      message: expect.stringContaining(`'${tensor.name}'`),
      details: { tensor: tensor.name, expected: expect.stringContaining(expected) },
    })
  })

  it('a dtype that no format has', async () => {
    await expect(planLayer(await replaced(UP, I64))).rejects.toMatchObject({
      code: 'ERR_MOE_UNSUPPORTED_FORMAT',
    })
  })

  it('fp8 without a scale, with one of another size, and a scale beside plain weights', async () => {
    const fp8 = { name: UP, dtype: 'F8_E4M3', shape: [WIDTH, HIDDEN], data: new Uint8Array(WIDTH * HIDDEN) }
    const scale = (...shape: number[]) => f32(`${UP}_scale_inv`, ...shape)
    const plan = async (tensors: WritableTensor[]) => {
      const rest = layerTensors(1).filter(({ name }) => name !== UP)
      return planLayer(await writeCheckpoint(CONFIG, [...rest, ...tensors]))
    }
    await expect(plan([fp8])).rejects.toMatchObject({ code: 'ERR_MOE_MISSING_TENSOR' })
    await expect(plan([fp8, scale(2, 2)])).rejects.toMatchObject({
      code: 'ERR_MOE_UNSUPPORTED_FORMAT',
      message: expect.stringContaining('whose blocks no config names'),
    })
    await expect(plan([f32(UP, WIDTH, HIDDEN), scale(1, 1)])).rejects.toMatchObject({
      code: 'ERR_MOE_UNSUPPORTED_FORMAT',
    })
    const item = (await plan([fp8, scale(1, 1)])).matrices.find(({ data }) => data.name === UP)
    expect(item?.encoding).toEqual({ codec: 'float', block: { rows: WIDTH, cols: HIDDEN } })
  })
})

describe('reading', () => {
  it('gives the stored values, rounded once to the asked dtype', async () => {
    const tensors = layerTensors(1)
    const directory = await writeCheckpoint(CONFIG, tensors)
    const plan = await planLayer(directory)
    const valuesOf = (name: string) => tensors.find(tensor => tensor.name === name)!.data as Float32Array
    const vectors = await readVectors(plan)
    expect(vectors.routerWeight).toEqual(valuesOf(ROUTER))
    const exact = await loadMatrices(plan, 'f32')
    expect(exact.experts[2]!.up).toEqual(valuesOf(UP))
    const rounded = await loadMatrices(plan, 'bf16')
    expect(rounded.experts[2]!.up).toEqual(valuesOf(UP).map(value => bf16ToNumber(numberToBf16(value))))
  })

  it('refuses a table that names experts that do not exist', async () => {
    const tensors = layerTensors(1).filter(({ name }) => !name.includes('shared'))
    for (const id of [-1n, BigInt(EXPERTS), 2n ** 40n]) {
      const table = {
        name: 'model.layers.1.mlp.gate.tid2eid',
        dtype: 'I64',
        shape: [3, 2],
        data: new BigInt64Array(6),
      }
      table.data[5] = id
      const plan = await planLayer(await writeCheckpoint(HASH_CONFIG, [...tensors, table]), { layer: 1 })
      expect(plan.config.hashRouted).toBe(true)
      await expect(readVectors(plan)).rejects.toMatchObject({ code: 'ERR_MOE_INVALID_CHECKPOINT' })
    }
  })

  it('stops with the reason of the signal', async () => {
    const plan = await planLayer(await writeCheckpoint(CONFIG, layerTensors(1)))
    const reason = new Error('stop')
    const signal = AbortSignal.abort(reason)
    await expect(readVectors(plan, { signal })).rejects.toBe(reason)
    await expect(loadMatrices(plan, 'f32', { signal })).rejects.toBe(reason)
    const controller = new AbortController()
    const onBytes = () => controller.abort(reason)
    await expect(loadMatrices(plan, 'f32', { signal: controller.signal, onBytes })).rejects.toBe(reason)
  })

  it('names a file that has become shorter, or is gone', async () => {
    const directory = await writeCheckpoint(CONFIG, layerTensors(1))
    const plan = await planLayer(directory)
    await truncate(plan.files[0]!, 4000)
    await expect(loadMatrices(plan, 'f32')).rejects.toMatchObject({ code: 'ERR_MOE_IO' })
    await rm(plan.files[0]!)
    await expect(readVectors(plan)).rejects.toMatchObject({
      code: 'ERR_MOE_IO',
      details: { file: plan.files[0] },
    })
  })

  it('gives the event loop a turn after every row that uses up a slice of time', async () => {
    const width = 64
    const config = { ...CONFIG, hidden_size: width, n_shared_experts: 0, num_experts_per_tok: 1, n_group: 1 }
    const base = 'model.layers.1.mlp.'
    const matrix = (name: string) => ({
      name: base + name,
      dtype: 'BF16',
      shape: [width, width],
      data: new Uint16Array(width * width).fill(0x3f80),
    })
    const experts = [0, 1].flatMap(e =>
      ['gate', 'up', 'down'].map(part => matrix(`experts.${e}.${part}_proj.weight`)),
    )
    const directory = await writeCheckpoint({ ...config, n_routed_experts: 2 }, [
      f32(`${base}gate.weight`, 2, width),
      f32(`${base}gate.e_score_correction_bias`, 2),
      ...experts,
    ])
    const plan = await planLayer(directory)
    const turns = await withClock(1e3, () => turnsUntil(loadMatrices(plan, 'f16')))
    expect(turns).toBeGreaterThanOrEqual(experts.length * width)
  })
})
