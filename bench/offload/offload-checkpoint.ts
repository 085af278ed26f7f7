/** The checkpoint that the parts of `npm run bench:offload` share: layers of random weights, each in a file of its own. */

import { spawnSync } from 'node:child_process'
import { closeSync, fsyncSync, openSync } from 'node:fs'
import { Random } from '../../test/cases/random.js'
import { type WrittenCheckpoint, writeLayers } from '../goals/checkpoint.js'
import { type MoeLayer, MoeModel } from '../harness/package.js'
import type { BenchShape } from '../harness/shapes.js'

export type OffloadDType = 'bf16' | 'f16' | 'fp8'

export interface OffloadCheckpoint extends WrittenCheckpoint {
  shape: BenchShape
  dtype: OffloadDType
  numLayers: number
}

export async function writeOffloadCheckpoint(
  shape: BenchShape,
  dtype: OffloadDType,
  directory: string,
  numLayers: number,
): Promise<OffloadCheckpoint> {
  const written = await writeLayers(shape, dtype, directory, numLayers)
  // What is still to be written would keep the disk busy while it is measured.
  for (const file of written.files) syncFile(file)
  return { ...written, shape, dtype, numLayers }
}

function syncFile(file: string): void {
  const descriptor = openSync(file, 'r')
  try {
    fsyncSync(descriptor)
  } finally {
    closeSync(descriptor)
  }
}

/**
 * The page cache has none of these files afterwards: pages that were brought there before belong to no memory group that a process enters now.
 *
 * @throws where the system has no way to do that
 */
export function forgetFiles(files: readonly string[]): void {
  for (const file of files) {
    syncFile(file)
    const { status } = spawnSync('dd', [`if=${file}`, 'iflag=nocache', 'count=0', 'status=none'])
    if (status !== 0) throw new Error(`${file} stays in the page cache`)
  }
}

/** What a cache takes for one expert of its layers, from headers alone. */
export async function expertBytesOf({ source }: OffloadCheckpoint): Promise<number> {
  const { layers } = await MoeModel.plan(source, { device: 'cpu' })
  return layers[0]!.expertBytes
}

/** Rows whose experts differ from call to call; a few of them come again and again, as in text. */
export class Rows {
  readonly #random: Random
  readonly #width: number
  readonly #known: Float32Array<ArrayBuffer>[] = []

  constructor(layer: MoeLayer, seed: number) {
    this.#random = new Random(seed)
    this.#width = layer.config.hiddenSize
  }

  /** Rows that nobody has seen. */
  fresh(count: number): Float32Array<ArrayBuffer> {
    return this.#random.normals(count * this.#width) as Float32Array<ArrayBuffer>
  }

  /** One row: in half of the calls one of the last sixteen. */
  next(): Float32Array<ArrayBuffer> {
    if (this.#known.length > 0 && this.#random.uniform() < 0.5)
      return this.#known[this.#random.integer(this.#known.length)]!
    const row = this.fresh(1)
    this.#known.push(row)
    if (this.#known.length > 16) this.#known.shift()
    return row
  }
}
