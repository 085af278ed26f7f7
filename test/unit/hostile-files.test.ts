/** Checkpoints that somebody made to do harm: each is refused with a coded error, soon, and holds neither the event loop nor memory. */

import { execFileSync } from 'node:child_process'
import { rmSync, writeFileSync } from 'node:fs'
import { mkdir, rm, symlink, truncate, writeFile } from 'node:fs/promises'
import path from 'node:path'
import { runInNewContext } from 'node:vm'
import { afterAll, describe, expect, it } from 'vitest'
import { MAX_CONFIG_BYTES, MAX_CONFIG_DEPTH, parseConfig } from '../../lib/checkpoint/config-json.js'
import { openSource } from '../../lib/checkpoint/directory.js'
import { Pacer } from '../../lib/checkpoint/pacer.js'
import { planLayer } from '../../lib/checkpoint/plan/layer.js'
import { MAX_INDEX_TENSORS, parseIndex } from '../../lib/checkpoint/shard-index.js'
import { MoeError, MoeLayer } from '../../lib/index.js'
import { safetensorsBytes } from '../helpers/checkpoint-memory.js'
import {
  CONFIG,
  EXPERTS,
  HASH_CONFIG,
  layerTensors,
  removeCheckpoints,
  writeCheckpoint,
} from '../helpers/checkpoint-tiny.js'
import { turnsUntil, withClock } from '../helpers/liveness.js'
import { skippedOnWindows } from '../helpers/platform.js'

afterAll(removeCheckpoints)

const MINUTE_MS = 60_000
const parse = (text: string) => parseConfig(text, 'config.json')
const invalidConfig = expect.objectContaining({ code: 'ERR_MOE_INVALID_CONFIG' })
const index = (text: string) => parseIndex(text, 'model.safetensors.index.json', new Pacer())

describe('files that are no regular files', () => {
  const isPosix = !skippedOnWindows('FIFOs and links', 'it has no FIFOs, and only administrators make links')
  const KINDS: [string, (file: string) => Promise<unknown>][] = [['a directory', file => mkdir(file)]]
  if (isPosix) {
    KINDS.push(
      ['a FIFO', async file => execFileSync('mkfifo', [file])],
      ['a link to /dev/zero', file => symlink('/dev/zero', file)],
      ['a link to itself', file => symlink(file, file)],
      ['a link to nothing', file => symlink(`${file}-gone`, file)],
    )
  }
  const sharded = () => writeCheckpoint(CONFIG, [layerTensors(1), layerTensors(2)])
  for (const name of ['config.json', 'model.safetensors', 'model.safetensors.index.json', 'a shard']) {
    it.each(KINDS)(`${name} is %s`, async (_, make) => {
      const directory = await (name === 'a shard' || name.endsWith('index.json')
        ? sharded()
        : writeCheckpoint(CONFIG, layerTensors(1)))
      const file = path.join(directory, name === 'a shard' ? 'model-00001-of-00002.safetensors' : name)
      await rm(file)
      await make(file)
      await expect(planLayer(directory, { layer: 1 })).rejects.toMatchObject({
        code: expect.stringMatching(/^ERR_MOE_(IO|INVALID_CHECKPOINT)$/),
        message: expect.stringContaining(directory),
      })
    })
  }

  it.runIf(isPosix)('a file that became a FIFO after it was planned', async () => {
    for (const device of ['reference', 'auto'] as const) {
      const directory = await writeCheckpoint(CONFIG, layerTensors(1))
      const file = path.join(directory, 'model.safetensors')
      await expect(
        MoeLayer.load(directory, {
          device,
          onProgress: ({ loadedBytes }) => {
            if (loadedBytes > 0) return
            rmSync(file, { force: true })
            execFileSync('mkfifo', [file])
          },
        }),
      ).rejects.toBeInstanceOf(MoeError)
    }
  })
})

describe('config.json', () => {
  it('takes a time in proportion to its length, whatever is escaped or left open', () => {
    const shapes: [unit: string, shape: (units: string) => string][] = [
      ['\\\\', units => `{"a":"${units}`],
      ['\\"', units => `{"a":"${units}`],
      ['\\"', units => `{"a":"${units}"}`],
      ['"NaN",', units => `[${units}`],
      ['-', units => units],
      ['NaN,-Infinity,', units => `[${units}0]`],
    ]
    for (const [unit, shape] of shapes) {
      const text = shape(unit.repeat((MAX_CONFIG_BYTES - 16) / unit.length))
      const outcome = () => {
        try {
          return parse(text)
        } catch (error) {
          return error
        }
      }
      // Some tenths of a second. What grows with the square takes hours, which no machine is slow enough for: then V8 ends the script.
      const ended: unknown = runInNewContext('outcome()', { outcome }, { timeout: MINUTE_MS })
      if (ended instanceof Error) expect(ended).toEqual(invalidConfig)
      else expect(ended).toHaveProperty('a')
    }
  })

  it('may have long strings, and the bare NaN and Infinity of Python', () => {
    const long = '\\"'.repeat(1e6)
    expect(parse(`{"a":"${long}","b":[NaN,-Infinity,Infinity],"c":"NaN"}`)).toEqual({
      a: '"'.repeat(1e6),
      b: [null, null, null],
      c: 'NaN',
    })
  })

  it(`has at most ${MAX_CONFIG_DEPTH} levels and ${MAX_CONFIG_BYTES} bytes`, async () => {
    const nested = (depth: number) => `{"a":${'['.repeat(depth - 1)}${']'.repeat(depth - 1)}}`
    expect(parse(nested(MAX_CONFIG_DEPTH))).toHaveProperty('a')
    for (const depth of [MAX_CONFIG_DEPTH + 1, 50_000])
      expect(() => parse(nested(depth))).toThrow(invalidConfig)
    expect(() => parse('['.repeat(MAX_CONFIG_BYTES))).toThrow(invalidConfig)
    expect(() => parse(`{"a":"${' '.repeat(MAX_CONFIG_BYTES)}"}`)).toThrow(invalidConfig)
    const directory = await writeCheckpoint(
      { ...CONFIG, note: ' '.repeat(MAX_CONFIG_BYTES) },
      layerTensors(1),
    )
    await expect(planLayer(directory)).rejects.toMatchObject({
      code: expect.stringMatching(/^ERR_MOE_INVALID_/),
    })
  })

  it('reads a long list once, not once for each layer', async () => {
    const list = (item: unknown) => Array.from({ length: 200_000 }, () => item)
    const change = { num_hidden_layers: 4000, n_routed_experts: undefined, num_experts: EXPERTS }
    const cases: object[] = [
      { ...CONFIG, num_hidden_layers: 4000, mlp_layer_types: list('dense') },
      { ...CONFIG, ...change, model_type: 'qwen3_moe', mlp_only_layers: list(3), decoder_sparse_step: 4001 },
      { ...CONFIG, ...change, model_type: 'nemotron_h', layers_block_type: list('mlp') },
    ]
    for (const config of cases) {
      const error: unknown = await planLayer(await writeCheckpoint(config, layerTensors(1))).then(
        () => undefined,
        reason => reason,
      )
      if (error !== undefined) expect(error).toBeInstanceOf(MoeError)
    }
  })

  it('has few ways of quantising', async () => {
    const many = Array.from({ length: 10_000 }, (_, i) => [`rule ${i}`, { group_size: i + 1, weights: {} }])
    const rules = Object.fromEntries(many)
    const quantizations = [
      { quant_method: 'gptq', bits: 4, group_size: 128, dynamic: rules },
      { quant_method: 'compressed-tensors', config_groups: rules },
    ]
    for (const quantization_config of quantizations) {
      const directory = await writeCheckpoint({ ...CONFIG, quantization_config }, layerTensors(1))
      await expect(planLayer(directory)).rejects.toMatchObject({
        code: 'ERR_MOE_INVALID_CONFIG',
        message: expect.stringContaining('above the cap of 64'),
      })
    }
  })

  it('may hold any value in any place', async () => {
    let deep: unknown = 0
    for (let i = 0; i < MAX_CONFIG_DEPTH - 4; i++) deep = [deep]
    const values = [
      { toString: null, toJSON: null, valueOf: 1 },
      { constructor: { name: { toString: null } } },
      { length: -1 },
      deep,
      [null],
      [[]],
      'x'.repeat(1e5),
      1e308,
      -0.5,
      true,
    ]
    const directory = await writeCheckpoint(CONFIG, layerTensors(1))
    const file = path.join(directory, 'config.json')
    const extra = ['quantization_config', 'text_config', 'mlp_layer_types', 'mlp_only_layers', 'rope_scaling']
    for (const field of [...Object.keys(CONFIG), ...extra]) {
      for (const value of values) {
        writeFileSync(file, JSON.stringify({ ...CONFIG, [field]: value }))
        const error: unknown = await planLayer(directory).then(
          () => undefined,
          reason => reason,
        )
        if (error === undefined) continue
        expect(error, field).toBeInstanceOf(MoeError)
        expect(String((error as MoeError).message).length, field).toBeLessThan(10_000)
      }
    }
  })
})

describe('model.safetensors.index.json', () => {
  it('names at most as many tensors as a checkpoint can sensibly have', async () => {
    expect(MAX_INDEX_TENSORS).toBeGreaterThan(3 * 384 * 61 * 9)
    const text = '{"weight_map":{"a":"a.safetensors","b":"a.safetensors","c":"a.safetensors"}}'
    const parseAtMost = (count: number) => parseIndex(text, 'index.json', new Pacer(), count)
    expect((await parseAtMost(3)).shardOf.size).toBe(3)
    await expect(parseAtMost(2)).rejects.toMatchObject({
      code: 'ERR_MOE_INVALID_CHECKPOINT',
      message: expect.stringContaining('more than 2 keys'),
    })
  })

  it.each([
    ['many keys beside the map', `{${Array.from({ length: 65_537 }, (_, i) => `"${i}":0`)}}`],
    ['a long list beside the map', `{"x":[${'0,'.repeat(1e6)}0]}`],
    ['deep nesting beside the map', `{"x":${'['.repeat(1e5)}`],
    ['a map in a map', '{"weight_map":{"a":{"b":"c.safetensors"}}}'],
    ['a shard elsewhere', '{"weight_map":{"a":"../c.safetensors"}}'],
  ])('refuses %s', async (_, text) => {
    await expect(index(text)).rejects.toMatchObject({ code: 'ERR_MOE_INVALID_CHECKPOINT' })
  })

  it('knows the tensors of each shard', async () => {
    const [numShards, numTensors] = [30, 50]
    const shards = Array.from({ length: numShards }, (_, shard) =>
      Array.from({ length: numTensors }, (_, i) => `layer.${shard}.${i}`),
    )
    const map = shards.flatMap((names, shard) => names.map(name => `"${name}":"s${shard}.safetensors"`))
    const directory = await writeCheckpoint(CONFIG, layerTensors(1))
    await rm(path.join(directory, 'model.safetensors'))
    await writeFile(path.join(directory, 'model.safetensors.index.json'), `{"weight_map":{${map}}}`)
    for (const [shard, names] of shards.entries()) {
      const entries = names.map(name => `"${name}":{"dtype":"U8","shape":[0],"data_offsets":[0,0]}`)
      await writeFile(path.join(directory, `s${shard}.safetensors`), safetensorsBytes(`{${entries}}`, 0))
    }
    const checkpoint = await openSource(directory)
    await checkpoint.prepare('layer.')
    expect(checkpoint.get('layer.29.49')).toMatchObject({ bytes: 0 })
    await checkpoint.files.close()
  })
})

describe('time and memory', () => {
  it('a header gives the event loop its turns, and an abort in the middle is noticed', async () => {
    const names = Array.from(
      { length: 3000 },
      (_, i) => `"${i}":{"dtype":"U8","shape":[0],"data_offsets":[0,0]}`,
    )
    const directory = await writeCheckpoint(CONFIG, layerTensors(1))
    await writeFile(path.join(directory, 'model.safetensors'), safetensorsBytes(`{${names}}`, 0))
    await withClock(6, async () => {
      const opened = openSource(directory)
      expect(await turnsUntil(opened)).toBeGreaterThan(3000)
      await (await opened).files.close()
      const abort = new AbortController()
      const reason = new Error('enough')
      const opening = openSource(directory, abort.signal)
      setTimeout(() => abort.abort(reason))
      await expect(opening).rejects.toBe(reason)
    })
  })

  const takesAll = skippedOnWindows(
    'a tensor larger than the memory',
    'a file takes all of its bytes on NTFS',
  )
  it.skipIf(takesAll).each(['reference', 'auto'] as const)(
    'a small tensor larger than the memory is refused before it is read on %s',
    async device => {
      const vocabSize = 2 ** 37
      const tensors = layerTensors(1).filter(({ name }) => !name.includes('shared'))
      const directory = await writeCheckpoint(HASH_CONFIG, tensors)
      const bytes = (shape: number[], size: number) =>
        shape.reduce((product, length) => product * length, size)
      let offset = 0
      const entry = (name: string, dtype: string, shape: number[], size: number) => {
        const begin = offset
        offset += bytes(shape, size)
        return [name, { dtype, shape, data_offsets: [begin, offset] }] as const
      }
      const header = JSON.stringify(
        Object.fromEntries([
          ...tensors.map(({ name, shape }) => entry(name, 'F32', [...shape], 4)),
          entry('model.layers.1.mlp.gate.tid2eid', 'I64', [vocabSize, 2], 8),
        ]),
      )
      const file = path.join(directory, 'model.safetensors')
      await writeFile(file, safetensorsBytes(header, 0))
      // 2 TiB of nothing: the file system keeps the length alone.
      await truncate(file, 8 + header.length + offset)
      await expect(MoeLayer.load(directory, { layer: 1, device })).rejects.toMatchObject({
        code: 'ERR_MOE_OUT_OF_MEMORY',
        details: { neededBytes: expect.any(Number), freeBytes: expect.any(Number) },
      })
    },
  )
})
