/** Headers as @huggingface/gguf reads them: the same keys, the same tensors at the same places. */

import { readFileSync } from 'node:fs'
import path from 'node:path'
import { GGMLQuantizationType, GGUFValueType, gguf } from '@huggingface/gguf'
import fc from 'fast-check'
import { afterAll, describe, expect, it } from 'vitest'
import { readGgufHeader } from '../../lib/checkpoint/gguf/header.js'
import { removeGguf, writeGguf } from '../golden/gguf-layer.js'
import { memoryFile } from '../helpers/checkpoint-memory.js'
import { ggmlGolden } from '../helpers/ggml-golden.js'
import { model } from '../helpers/gguf-model.js'
import { type GgufFile, type GgufValueType, ggufArray, ggufScalar } from '../helpers/gguf-writer.js'

afterAll(removeGguf)

interface Header {
  /** With their types; of an array the type of its elements. */
  keys: Record<string, { type: string; value: unknown }>
  tensors: { name: string; type: string; shape: number[]; position: number }[]
}

const TYPE_NAMES: Readonly<Record<string, string>> = {
  ...{ UINT8: 'u8', INT8: 'i8', UINT16: 'u16', INT16: 'i16', UINT32: 'u32', INT32: 'i32' },
  ...{ UINT64: 'u64', INT64: 'i64', FLOAT32: 'f32', FLOAT64: 'f64', BOOL: 'bool', STRING: 'string' },
}

const narrow = (value: unknown): unknown =>
  Array.isArray(value) ? value.map(narrow) : typeof value === 'bigint' ? Number(value) : value

/** What the other reader puts beside the keys. */
const isCounter = (key: string) => ['version', 'tensor_count', 'kv_count'].includes(key)

/** Ours passes over what tokenizers alone need. */
const isOfTokenizer = (key: string) => key.startsWith('tokenizer.')

async function theirs(file: string): Promise<Header> {
  const { typedMetadata, tensorInfos, tensorDataOffset } = await gguf(file, {
    typedMetadata: true,
    allowLocalFile: true,
  })
  const keys: Header['keys'] = {}
  const typed: Record<string, { value: unknown; type: GGUFValueType; subType?: GGUFValueType }> =
    typedMetadata
  for (const [key, { value, type, subType = type }] of Object.entries(typed)) {
    if (isCounter(key) || isOfTokenizer(key)) continue
    const name = TYPE_NAMES[GGUFValueType[subType]!]!
    // Ours keeps nothing of an array of strings but its length.
    const isPassedOver = name === 'string' && Array.isArray(value)
    keys[key] = { type: name, value: isPassedOver ? { length: value.length } : narrow(value) }
  }
  const tensors = tensorInfos.map(({ name, dtype, shape, offset }) => ({
    ...{ name, type: GGMLQuantizationType[dtype]!, shape: shape.map(Number).reverse() },
    position: Number(tensorDataOffset + offset),
  }))
  return { keys, tensors }
}

async function ours(file: string): Promise<Header> {
  const bytes = readFileSync(file)
  const header = await readGgufHeader(memoryFile(bytes), bytes.length, file)
  const keys: Header['keys'] = {}
  for (const [key, { type, value }] of header.metadata)
    if (!isOfTokenizer(key)) keys[key] = { type, value: narrow(value) }
  const tensors = [...header.tensors.values()].map(({ name, dtype, shape, offset }) => ({
    ...{ name, type: dtype, shape: [...shape], position: offset },
  }))
  return { keys, tensors }
}

async function expectAgreement(file: string): Promise<Header> {
  const header = await theirs(file)
  expect(await ours(file)).toEqual(header)
  return header
}

describe('a header as @huggingface/gguf reads it', () => {
  const written = path.join(import.meta.dirname, '../golden/gguf-py')

  it.each(['whole.gguf', 'split-00001-of-00002.gguf', 'split-00002-of-00002.gguf'])(
    '%s of ggml’s own writer',
    async name => {
      const { keys } = await expectAgreement(path.join(written, name))
      expect(Object.keys(keys).length).toBeGreaterThan(0)
    },
  )

  const ofInteger = (type: GgufValueType, options: { min: number; max: number }) =>
    fc.integer(options).map(value => [type, value] as const)
  const scalar = fc.oneof(
    ofInteger('u8', { min: 0, max: 255 }),
    ofInteger('i8', { min: -128, max: 127 }),
    ofInteger('u16', { min: 0, max: 65_535 }),
    ofInteger('i16', { min: -32_768, max: 32_767 }),
    ofInteger('u32', { min: 0, max: 0x7fffffff }),
    ofInteger('i32', { min: -0x80000000, max: 0x7fffffff }),
    ofInteger('u64', { min: 0, max: Number.MAX_SAFE_INTEGER }),
    ofInteger('i64', { min: Number.MIN_SAFE_INTEGER, max: Number.MAX_SAFE_INTEGER }),
    fc.float({ noNaN: true }).map(value => ['f32', value] as const),
    fc.double({ noNaN: true }).map(value => ['f64', value] as const),
    fc.boolean().map(value => ['bool', value] as const),
    fc.string({ unit: 'binary' }).map(value => ['string', value] as const),
  )
  const value = fc.oneof(
    scalar.map(([type, one]) => ggufScalar(type, one)),
    fc.tuple(scalar, fc.integer({ min: 0, max: 5 })).map(([[type, one], count]) =>
      ggufArray(
        type,
        Array.from({ length: count }, () => one),
      ),
    ),
  )
  const tensor = fc
    .tuple(fc.constantFrom(...ggmlGolden()), fc.array(fc.integer({ min: 1, max: 3 }), { maxLength: 3 }))
    .map(([{ type, elements, bytes }, outer]) => ({
      type,
      shape: [...outer, elements * (1 + (outer.length % 2))],
      data: new Uint8Array(outer.reduce((a, b) => a * b, 1) * bytes * (1 + (outer.length % 2))),
    }))
  const file = fc.record({
    keys: fc.uniqueArray(fc.tuple(fc.stringMatching(/^[a-z][a-z0-9_.]{0,20}$/), value), {
      selector: ([key]) => key,
      maxLength: 12,
    }),
    tensors: fc.uniqueArray(fc.tuple(fc.stringMatching(/^[a-z][a-z0-9_.]{0,40}$/), tensor), {
      selector: ([name]) => name,
      maxLength: 8,
    }),
    alignment: fc.constantFrom(undefined, 8, 32, 64, 4096),
  })

  it('of any keys, types and alignment', async () => {
    await fc.assert(
      fc.asyncProperty(file, async ({ keys, tensors, alignment }) => {
        const kept = keys.filter(([key]) => key !== 'general.alignment' && !isCounter(key))
        const made: GgufFile = {
          keys: alignment ? [...kept, ['general.alignment', ggufScalar('u32', alignment)]] : kept,
          tensors: tensors.map(([name, rest]) => ({ name, ...rest })),
          ...(alignment && { alignment }),
        }
        const header = await expectAgreement(writeGguf(made))
        expect(header.tensors).toHaveLength(tensors.length)
        expect(Object.keys(header.keys)).toHaveLength(
          kept.filter(([key]) => !isOfTokenizer(key)).length + (alignment ? 1 : 0),
        )
      }),
      { numRuns: 60 },
    )
  })

  it('of a model', async () => {
    const { tensors } = await expectAgreement(writeGguf(model()))
    expect(tensors.length).toBeGreaterThan(3)
  })
})
