/** Hidden states for `run`: from a file, or random ones. */

import { readFile } from 'node:fs/promises'
import path from 'node:path'
import { allocate } from '../block/allocate.js'
import { invalidArgShape, invalidArgValue, MoeError } from '../block/errors.js'
import type { LayerPlan } from '../checkpoint/plan/layer-plan.js'
import { parseNpy } from './npy.js'

/** Uniform numbers in [0, 1) from a seed (mulberry32). */
export function uniformSource(seed: number): () => number {
  let state = seed >>> 0
  return () => {
    state = (state + 0x6d2b79f5) >>> 0
    let mixed = Math.imul(state ^ (state >>> 15), state | 1)
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61)
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32
  }
}

/**
 * `[numTokens, hiddenSize]` standard normal: the scale of a block's input, which is behind a norm.
 *
 * @throws {@link MoeError} ERR_MOE_OUT_OF_MEMORY
 */
export function randomHiddenStates(
  numTokens: number,
  hiddenSize: number,
  seed: number,
): Float32Array<ArrayBuffer> {
  const uniform = uniformSource(seed)
  const values = allocate<Float32Array<ArrayBuffer>>(Float32Array, numTokens * hiddenSize)
  for (let i = 0; i < values.length; i += 2) {
    const radius = Math.sqrt(-2 * Math.log(1 - uniform()))
    const angle = 2 * Math.PI * uniform()
    values[i] = radius * Math.cos(angle)
    if (i + 1 < values.length) values[i + 1] = radius * Math.sin(angle)
  }
  return values
}

/** What the router of a layer looks at beside or instead of the hidden states, where it does: rows of its own, or token ids. */
export function randomRouting(
  { config, vectors }: LayerPlan,
  numTokens: number,
  seed: number,
): { tokenIds?: Int32Array; routerInput?: Float32Array } {
  const routing: ReturnType<typeof randomRouting> = {}
  if (config.hashRouted) {
    // Ids below the vocabulary's size, which the layer's table has.
    const table = vectors.find(({ target }) => target === 'hashTable')!
    const vocabSize = table.length / config.topK
    const uniform = uniformSource(seed + 2)
    routing.tokenIds = Int32Array.from({ length: numTokens }, () => Math.floor(uniform() * vocabSize))
  }
  if (config.routerInput === 'separate')
    routing.routerInput = randomHiddenStates(numTokens, config.hiddenSize, seed + 1)
  return routing
}

/**
 * Reads `[numTokens, hiddenSize]`: `.npy` (f16, f32 or f64), `.json` (an array of rows, a flat array, or either as `hiddenStates` of an object),
 * anything else as raw little-endian f32. Numbers are rounded to f32.
 *
 * @throws {@link MoeError} ERR_MOE_IO; RangeError ERR_MOE_INVALID_ARG_SHAPE, ERR_MOE_INVALID_ARG_VALUE
 */
export async function readHiddenStates(file: string, hiddenSize: number): Promise<Float32Array> {
  let bytes: Buffer
  try {
    bytes = await readFile(file)
  } catch (error) {
    throw new MoeError('ERR_MOE_IO', `${file} could not be read: ${(error as Error).message}`, {
      cause: error,
    })
  }
  const extension = path.extname(file).toLowerCase()
  if (extension === '.npy') return parseNpy(bytes, file, hiddenSize)
  if (extension === '.npz') {
    throw invalidArgValue(
      file,
      "one array (an .npz file holds several: save the one that you mean with numpy.save('states.npy', archive['name']))",
      'an archive',
    )
  }
  if (extension === '.json') return parseJson(bytes, file, hiddenSize)
  if (bytes.byteLength % (4 * hiddenSize) !== 0) {
    throw invalidArgShape(
      file,
      `rows of ${hiddenSize} f32 values (${4 * hiddenSize} bytes each)`,
      `${bytes.byteLength} bytes`,
    )
  }
  // A copy, because the bytes may begin anywhere.
  return new Float32Array(new Uint8Array(bytes).buffer)
}

function parseJson(bytes: Buffer, file: string, hiddenSize: number): Float32Array {
  let parsed: unknown
  try {
    parsed = JSON.parse(bytes.toString('utf8'))
  } catch (error) {
    throw invalidArgValue(file, `JSON (${(error as Error).message})`, 'another text')
  }
  if (typeof parsed === 'object' && parsed !== null && 'hiddenStates' in parsed) parsed = parsed.hiddenStates
  if (!Array.isArray(parsed))
    throw invalidArgValue(file, 'a JSON array, or an object { "hiddenStates": [[…], …] }', parsed)
  const rows: unknown[][] = parsed.every(Array.isArray) ? parsed : [parsed]
  for (const row of rows) {
    const fits = parsed === rows ? row.length === hiddenSize : row.length % hiddenSize === 0
    if (!fits) throw invalidArgShape(file, `rows of ${hiddenSize} numbers`, `${row.length}`)
  }
  const values = rows.flat()
  const at = values.findIndex(value => typeof value !== 'number')
  if (at >= 0) throw invalidArgValue(`${file}[${at}]`, 'a number', values[at])
  return Float32Array.from(values as number[])
}
