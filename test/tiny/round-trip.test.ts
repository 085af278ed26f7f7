/** The model written again in Hugging Face's layouts, one file and shards, is the same model. */

import { readFile } from 'node:fs/promises'
import path from 'node:path'
import { afterAll, describe, expect, it } from 'vitest'
import { Decoder } from '../../examples/tiny-deepseek/decoder/index.js'
import { MODEL_DIRECTORY } from '../../examples/tiny-deepseek/files.js'
import { readSafetensorsHeader } from '../../lib/checkpoint/safetensors.js'
import type { WritableTensor } from '../../lib/checkpoint/writer.js'
import { type DeviceOption, MoeLayer } from '../../lib/index.js'
import { memoryFile } from '../cases/memory-file.js'
import { Random } from '../cases/random.js'
import { removeCheckpoints, writeCheckpoint } from '../helpers/checkpoint-tiny.js'
import { nativeDevices } from '../helpers/devices.js'
import { goldenWindows } from './golden-logits.js'

const device = nativeDevices[0] as DeviceOption

afterAll(removeCheckpoints)

/** As stored, in the order of the file. */
async function storedTensors(directory: string): Promise<(WritableTensor & { data: Buffer })[]> {
  const file = path.join(directory, 'model.safetensors')
  const bytes = await readFile(file)
  const { tensors } = await readSafetensorsHeader(memoryFile(bytes), bytes.length, file)
  return [...tensors.values()].map(({ name, dtype, shape, offset, bytes: size }) => ({
    name,
    dtype,
    shape,
    data: bytes.subarray(offset, offset + size),
  }))
}

describe('the model written again', () => {
  const config = async () => JSON.parse(await readFile(path.join(MODEL_DIRECTORY, 'config.json'), 'utf8'))

  it('as one file has the same bytes, and the decoder the same logits', async () => {
    const tensors = await storedTensors(MODEL_DIRECTORY)
    const directory = await writeCheckpoint(await config(), tensors)
    const again = await storedTensors(directory)
    const described = (list: typeof tensors) => list.map(({ name, dtype, shape }) => ({ name, dtype, shape }))
    expect(described(again)).toEqual(described(tensors))
    // Not toEqual, which takes a minute for ten million bytes.
    expect(again.filter(({ data }, index) => !data.equals(tensors[index]!.data))).toHaveLength(0)
    const { tokens } = (await goldenWindows())[0]!
    using original = await Decoder.load(MODEL_DIRECTORY, { device })
    using copy = await Decoder.load(directory, { device })
    const [ours, theirs] = [
      await original.forward([{ sequence: original.newSequence(), tokens }]),
      await copy.forward([{ sequence: copy.newSequence(), tokens }]),
    ]
    expect(theirs.logits).toEqual(ours.logits)
  })

  it('as shards that cut through layers and experts gives the same layers', async () => {
    const tensors = await storedTensors(MODEL_DIRECTORY)
    const shards: WritableTensor[][] = [[], [], []]
    for (const [index, tensor] of tensors.entries()) shards[index % 3]!.push(tensor)
    const directory = await writeCheckpoint(await config(), shards)
    for (const layer of [1, 4]) {
      using original = await MoeLayer.load(MODEL_DIRECTORY, { layer, device })
      using copy = await MoeLayer.load(directory, { layer, device })
      expect(copy.config).toEqual(original.config)
      const hiddenStates = new Random(layer).normals(9 * original.config.hiddenSize)
      const [ours, theirs] = [await original.forward(hiddenStates), await copy.forward(hiddenStates)]
      expect(theirs.output).toEqual(ours.output)
      expect(theirs.topkIds).toEqual(ours.topkIds)
    }
  })
})
