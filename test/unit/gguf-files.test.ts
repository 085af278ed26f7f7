/** GGUF files as sources: single, split, in a directory, of ggml's own writer; loaded on a device. */

import { createHash } from 'node:crypto'
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import path from 'node:path'
import { afterAll, describe, expect, it } from 'vitest'
import { readGgufHeader } from '../../lib/checkpoint/gguf/header.js'
import { loadMatrices } from '../../lib/checkpoint/load/matrices.js'
import { planLayer } from '../../lib/checkpoint/plan/layer.js'
import { MoeLayer } from '../../lib/index.js'
import { STORED_FORMATS } from '../../lib/spec/formats.js'
import { dense, removeGguf, writeGguf } from '../golden/gguf-layer.js'
import { memoryFile } from '../helpers/checkpoint-memory.js'
import { ggmlGolden } from '../helpers/ggml-golden.js'
import { bytesOf, E, experts, f32, floats, H, I, K, model } from '../helpers/gguf-model.js'
import { type GgufFile, type GgufTensor, ggufBytes, ggufScalar } from '../helpers/gguf-writer.js'

afterAll(removeGguf)

describe('split files', () => {
  const split = (no: number, count: number, total: number): NonNullable<GgufFile['keys']> => [
    ['split.no', ggufScalar('u16', no)],
    ['split.count', ggufScalar('u16', count)],
    ['split.tensors.count', ggufScalar('i32', total)],
  ]
  /** Three shards of the model, in the directory of the first; `change` alters one of them. */
  function shards(change: (files: GgufFile[]) => void = () => {}, rename = (name: string) => name): string {
    const all = experts()
    const { keys } = model()
    const files: GgufFile[] = [
      { keys: [...keys!, ...split(0, 3, 4)], tensors: [] },
      { keys: split(1, 3, 4), tensors: all.slice(0, 3) },
      { keys: split(2, 3, 4), tensors: all.slice(3) },
    ]
    change(files)
    const nameOf = (index: number) => rename(`model-0000${index + 1}-of-00003.gguf`)
    const first = writeGguf(files[0]!, nameOf(0))
    for (const [index, file] of files.entries())
      if (index > 0) writeFileSync(path.join(path.dirname(first), nameOf(index)), ggufBytes(file))
    return first
  }

  it('are one model, given by the first shard or by their directory', async () => {
    const first = shards()
    for (const source of [first, path.dirname(first)]) {
      const planned = await planLayer(source)
      expect(planned.files.map(file => path.basename(file)).sort()).toEqual([
        'model-00002-of-00003.gguf',
        'model-00003-of-00003.gguf',
      ])
      const { experts: loaded } = await loadMatrices(planned, 'f32')
      expect(dense(loaded[1]!.down, H, I)).toEqual(floats(E * H * I, 3).slice(H * I, 2 * H * I))
    }
  })

  it.each<[string, () => string, string, RegExp]>([
    [
      'another shard than the first',
      () => shards().replace('00001-of', '00002-of'),
      'ERR_MOE_INVALID_CHECKPOINT',
      /is shard 2 of 3: give the first one, .*model-00001-of-00003/,
    ],
    [
      'a name that does not say it',
      () => shards(undefined, name => name.replace(/-of.*/, '.gguf')),
      'ERR_MOE_INVALID_CHECKPOINT',
      /is shard 1 of 3, which its name does not say.*model-00001-of-00003\.gguf/,
    ],
    [
      'a count that the name does not have',
      () => shards(files => (files[0] = { ...files[0], keys: [...model().keys!, ...split(0, 4, 4)] })),
      'ERR_MOE_INVALID_CHECKPOINT',
      /is shard 1 of 4, which its name does not say/,
    ],
    [
      'two shards with the same number',
      () => shards(files => (files[2] = { ...files[2], keys: split(1, 3, 4) })),
      'ERR_MOE_INVALID_CHECKPOINT',
      /by its keys it is shard 2 of 3 with 4 tensors, where shard 3 of 3/,
    ],
    [
      'a shard of another model',
      () => shards(files => (files[1] = { ...files[1], keys: split(1, 3, 5) })),
      'ERR_MOE_INVALID_CHECKPOINT',
      /with 5 tensors, where shard 2 of 3 with 4/,
    ],
    [
      'a shard that is none',
      () => shards(files => (files[1] = { ...files[1], keys: [] })),
      'ERR_MOE_INVALID_CHECKPOINT',
      /it is no shard/,
    ],
    [
      'a number beyond the count',
      () => shards(files => (files[1] = { ...files[1], keys: split(3, 3, 4) })),
      'ERR_MOE_INVALID_CONFIG',
      /split\.no must be an integer from 0 to 2/,
    ],
    [
      'a tensor in two shards',
      () => shards(files => (files[2] = { ...files[2], tensors: experts().slice(2) })),
      'ERR_MOE_INVALID_CHECKPOINT',
      /'blk\.0\.ffn_up_exps\.weight' is in .*00002-of-00003\.gguf too/,
    ],
    [
      'fewer tensors than stated',
      () => shards(files => (files[2] = { ...files[2], tensors: [] })),
      'ERR_MOE_INVALID_CHECKPOINT',
      /have 3 tensors, where split\.tensors\.count is 4/,
    ],
  ])('%s', async (_, make, code, message) => {
    await expect(planLayer(make())).rejects.toMatchObject({ code, message: expect.stringMatching(message) })
  })

  it('a shard that is not there', async () => {
    const first = shards(files => files.pop())
    await expect(planLayer(first)).rejects.toMatchObject({
      code: 'ERR_MOE_IO',
      message: expect.stringMatching(/00003-of-00003\.gguf.*shard 3 of 3: the download is not complete/),
    })
  })
})

describe('a file', () => {
  it('is known by its beginning, whatever it is called', async () => {
    const file = writeGguf(model(), 'sha256-1f2e')
    expect((await planLayer(file)).config.numExperts).toBe(E)
  })

  it('alone in a directory is that directory’s model', async () => {
    const file = writeGguf(model(), 'x-Q4_K_M.gguf')
    const directory = path.dirname(file)
    writeFileSync(path.join(directory, 'mmproj-f16.gguf'), ggufBytes(model([], {}, 'clip')))
    mkdirSync(path.join(directory, 'more'))
    expect((await planLayer(directory)).config.numExperts).toBe(E)
  })

  it('that ends early is refused before anything is read of it', async () => {
    const bytes = ggufBytes(model())
    const file = writeGguf(model())
    writeFileSync(file, bytes.subarray(0, bytes.length - 200))
    await expect(planLayer(file)).rejects.toMatchObject({
      code: 'ERR_MOE_INVALID_CHECKPOINT',
      message: expect.stringMatching(/lies outside of the file.*fetch the file again/),
    })
  })

  it.each(['reference', 'auto'] as const)(
    'loads and runs on %s, in bf16 unless asked otherwise',
    async device => {
      const file = writeGguf(model())
      const layer = await MoeLayer.load(file, { device })
      expect(layer.dtype).toBe('bf16')
      const { output } = await layer.forward(new Float32Array(2 * H).fill(0.25))
      expect(output.every(Number.isFinite)).toBe(true)
      layer.dispose()
    },
  )

  it.each(STORED_FORMATS.ggml.data)('in %s gives the bits of what it decodes to in F32', async type => {
    const [hidden, width] = [256, 256]
    const golden = ggmlGolden().find(item => item.type === type)!
    const matrix = (name: string, first: number): [GgufTensor, GgufTensor] => {
      const count = (E * hidden * width) / golden.elements
      const blocks = Array.from({ length: count }, (_, i) => 20 + ((first + i) % 8))
      const pick = (from: Uint8Array | Float32Array, size: number) =>
        blocks.map(block => from.subarray(block * size, (block + 1) * size))
      const values = Float32Array.from(
        (pick(golden.values, golden.elements) as Float32Array[]).flatMap(part => [...part]),
      )
      const shape = [E, width, hidden]
      return [
        { name, type, shape, data: Buffer.concat(pick(golden.stored, golden.bytes) as Uint8Array[]) },
        { name, type: 'F32', shape, data: bytesOf(values) },
      ]
    }
    const pairs = ['gate', 'up', 'down'].map((which, i) => matrix(`blk.0.ffn_${which}_exps.weight`, i))
    const router = f32('blk.0.ffn_gate_inp.weight', [E, hidden])
    const fileOf = (side: 0 | 1) =>
      writeGguf(model([router, ...pairs.map(pair => pair[side])], { embedding_length: hidden }))
    const hiddenStates = Float32Array.from({ length: 3 * hidden }, (_, i) => Math.sin(i))
    const outputs: Float32Array[] = []
    for (const side of [0, 1] as const) {
      const layer = await MoeLayer.load(fileOf(side), { device: 'auto', dtype: 'f32' })
      outputs.push((await layer.forward(hiddenStates)).output)
      layer.dispose()
    }
    expect(outputs[0]!.some(value => value !== 0 && Number.isFinite(value))).toBe(true)
    expect(outputs[0]).toEqual(outputs[1])
  })
})

describe('files of gguf-py, ggml’s own writer', () => {
  const folder = path.join(import.meta.dirname, '../golden/gguf-py')
  const expected = JSON.parse(readFileSync(path.join(folder, 'expected.json'), 'utf8')) as {
    tensors: { name: string }[]
    values: Record<string, { first: number[]; sha256: string }>
  }

  it('has the tensors where its reader finds them', async () => {
    const bytes = readFileSync(path.join(folder, 'whole.gguf'))
    const { tensors } = await readGgufHeader(memoryFile(bytes), bytes.length, 'whole.gguf')
    expect([...tensors.values()]).toEqual(expected.tensors)
  })

  it.each(['whole.gguf', 'split-00001-of-00002.gguf'])('%s has the values that it decodes', async name => {
    const planned = await planLayer(path.join(folder, name))
    expect(planned).toMatchObject({
      layer: 1,
      config: { family: 'qwen3_moe', numExperts: E, topK: K, hiddenSize: H },
    })
    const { experts: loaded } = await loadMatrices(planned, 'f32')
    for (const [matrix, rows, cols] of [
      ['gate', I, H],
      ['up', I, H],
      ['down', H, I],
    ] as const) {
      const values = new Float32Array(loaded.flatMap(expert => [...dense(expert[matrix]!, rows, cols)]))
      const { first, sha256 } = expected.values[`blk.1.ffn_${matrix}_exps.weight`]!
      expect([...values.subarray(0, 4)]).toEqual(first)
      expect(createHash('sha256').update(bytesOf(values)).digest('hex')).toBe(sha256)
    }
  })
})
