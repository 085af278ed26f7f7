/** Finds tensors of an opened checkpoint by name, checks their shape and dtype, and turns them into segments of a plan. */

import { MoeError } from '../block/errors.js'
import type { StoredType } from '../spec/formats.js'
import type { CheckpointDirectory, LocatedTensor } from './checkpoint.js'
import type { Segment } from './segment.js'

const formatShape = (shape: readonly number[]) => `[${shape.join(', ')}]`

/** Looks tensors up and collects the files that a plan touches. */
export class TensorLookup {
  readonly checkpoint: CheckpointDirectory
  /** Absolute paths, in the order of {@link Segment.file}. */
  readonly files: string[] = []
  private readonly fileIndex = new Map<string, number>()
  /** Names of the tensors that have become segments. */
  private readonly read = new Set<string>()
  /** Names of small tensors of their own, which are no parts of a matrix beside whose name they stand. */
  readonly vectors = new Set<string>()

  constructor(checkpoint: CheckpointDirectory) {
    this.checkpoint = checkpoint
  }

  has(name: string): boolean {
    return this.checkpoint.has(name)
  }

  find(name: string): LocatedTensor | undefined {
    return this.checkpoint.get(name)
  }

  /** The first of `names` that is there; none is ERR_MOE_MISSING_TENSOR. */
  require(...names: string[]): LocatedTensor {
    for (const name of names) {
      const tensor = this.find(name)
      if (tensor) return tensor
    }
    throw this.missing(names)
  }

  missing(tried: readonly string[]): MoeError {
    const names = [...new Set(tried)]
    const what = names.map(name => `'${name}'`).join(' or ')
    return new MoeError('ERR_MOE_MISSING_TENSOR', `${this.checkpoint.directory} has no tensor ${what}`, {
      details: { directory: this.checkpoint.directory, tensor: names[0], tried: [...names] },
    })
  }

  mismatch(tensor: LocatedTensor, expected: string): MoeError {
    const found = `${tensor.dtype} ${formatShape(tensor.shape)}`
    return new MoeError(
      'ERR_MOE_TENSOR_MISMATCH',
      `${tensor.file}: tensor '${tensor.name}' should be ${expected}, is ${found}`,
      {
        details: {
          file: tensor.file,
          tensor: tensor.name,
          expected,
          found,
          dtype: tensor.dtype,
          shape: [...tensor.shape],
        },
      },
    )
  }

  unsupported(tensor: LocatedTensor, why: string): MoeError {
    return new MoeError(
      'ERR_MOE_UNSUPPORTED_FORMAT',
      `${tensor.file}: tensor '${tensor.name}' (${tensor.dtype} ${formatShape(tensor.shape)}): ${why}`,
      { details: { file: tensor.file, tensor: tensor.name, dtype: tensor.dtype, shape: [...tensor.shape] } },
    )
  }

  /** Checks dtype and exact shape. */
  expect(tensor: LocatedTensor, dtypes: readonly string[], shape: readonly number[]): LocatedTensor {
    const sameShape =
      tensor.shape.length === shape.length && shape.every((length, i) => tensor.shape[i] === length)
    if (!dtypes.includes(tensor.dtype) || !sameShape) {
      throw this.mismatch(tensor, `${dtypes.join(' or ')} ${formatShape(shape)}`)
    }
    return tensor
  }

  /** Checks dtype and that the tensor has `length` elements along one dimension, all others being 1. */
  expectVector(tensor: LocatedTensor, dtypes: readonly string[], length: number): LocatedTensor {
    const others = tensor.shape.filter(size => size !== 1)
    const fits = length === 1 ? others.length === 0 : others.length === 1 && others[0] === length
    if (!dtypes.includes(tensor.dtype) || !fits) {
      throw this.mismatch(tensor, `${dtypes.join(' or ')} ${formatShape([length])}`)
    }
    return tensor
  }

  /**
   * Every tensor below `prefix` whose rest of the name `pattern` matches has been made a segment of.
   * @throws {@link MoeError} ERR_MOE_INVALID_CONFIG
   */
  requireRead(prefix: string, pattern: RegExp): void {
    for (const name of this.checkpoint.names.below(prefix)) {
      if (this.read.has(name) || !pattern.test(name.slice(prefix.length))) continue
      const { configFile } = this.checkpoint
      throw new MoeError(
        'ERR_MOE_INVALID_CONFIG',
        `${configFile}: the checkpoint holds '${name}', which a model of this config does not compute with; ` +
          'config and weights do not belong together, or the model is newer than this package',
        { details: { file: configFile, tensor: name } },
      )
    }
  }

  /** The whole tensor, or part `index` of `count` equal parts along its first dimension. */
  segment(tensor: LocatedTensor, index = 0, count = 1): Segment {
    let file = this.fileIndex.get(tensor.file)
    if (file === undefined) {
      file = this.files.push(tensor.file) - 1
      this.fileIndex.set(tensor.file, file)
    }
    this.read.add(tensor.name)
    const bytes = tensor.bytes / count
    return {
      file,
      offset: tensor.offset + index * bytes,
      bytes,
      type: tensor.dtype as StoredType,
      name: tensor.name,
    }
  }
}
